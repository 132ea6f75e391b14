/**
 * Starting and stopping a server on a data folder. PostgreSQL's own postmaster.pid says whether one runs, and where it listens.
 */
import { readFile, readlink, realpath, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { UserError } from "../database/errors.js";
import { program } from "./binaries.js";
import { type Cluster, hasData, initialise, own, ownSettings } from "./cluster.js";
import { isAlive, run } from "./processes.js";

export const patience = 120_000;

/** The port of the running server, or undefined when none runs on this data. */
export async function runningPort(cluster: Cluster): Promise<number | undefined> {
  if ((await postmasterPid(cluster)) === undefined) return undefined;
  const port = (await lockFile(cluster))?.split("\n")[3];
  return port ? Number(port) : undefined;
}

/** The process id of the running server, or undefined when none runs on this data. */
async function postmasterPid(cluster: Cluster): Promise<number | undefined> {
  const pid = Number((await lockFile(cluster))?.split("\n")[0] ?? 0);
  return pid > 0 && (await servesData(pid, cluster.data)) ? pid : undefined;
}

async function lockFile({ data }: Cluster): Promise<string | undefined> {
  return readFile(join(data, "postmaster.pid"), "utf8").catch(() => undefined);
}

/** Whether the process is a server on this very data: after a kill the pid may be anybody's. */
async function servesData(pid: number, data: string): Promise<boolean> {
  if (!isAlive(pid)) return false;
  if (process.platform === "linux") {
    const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
    return cwd === (await realpath(data));
  }
  if (process.platform === "win32") return true;
  const { output } = await run("ps", ["-o", "command=", "-p", String(pid)], undefined);
  return output.includes(data);
}

/** Starts the server, making its data folder first if need be. To be called when none runs on it. Returns the port. */
export async function startServer(cluster: Cluster): Promise<number> {
  if (!(await hasData(cluster))) await initialise(cluster);
  const log = join(cluster.data, "server.log");
  for (let attempt = 1; ; attempt++) {
    await disownLockFile(cluster);
    const port = await freePort(await lastPort(cluster));
    await writeSettings(cluster, port);
    await rm(log, { force: true });
    const { code, output } = await run(
      program(cluster.binaries, "pg_ctl"),
      ["start", "-w", "-t", String(patience / 1000), "-D", cluster.data, "-l", log],
      cluster.runAs,
      { cwd: cluster.folder },
    );
    if (code === 0) return port;
    const story = await readFile(log, "utf8").catch(() => output);
    // The port was taken in between, or backends of a killed server are still on their way out.
    const passing = /could not bind|could not create any TCP|shared memory block/.test(story);
    if (!passing || attempt >= 20) throw startFailure(story, log);
    await sleep(500);
  }
}

function startFailure(story: string, log: string): UserError {
  const fatal = story.split("\n").filter((line) => /FATAL|PANIC|HINT|DETAIL/.test(line));
  return new UserError(`The embedded server does not start: ${fatal.join(" ") || story.trim()}`, {
    hint: `See ${log}.`,
  });
}

/** Stops the server, ending its connections. */
export async function stopServer(cluster: Cluster): Promise<void> {
  const stopping = await postmasterPid(cluster);
  if (stopping === undefined) return;
  const { output } = await run(
    program(cluster.binaries, "pg_ctl"),
    ["stop", "-W", "-m", "fast", "-D", cluster.data],
    cluster.runAs,
    { cwd: cluster.folder },
  );
  // pg_ctl's own waiting would go on when somebody starts the server anew at once.
  const deadline = Date.now() + patience;
  while ((await postmasterPid(cluster)) === stopping) {
    if (Date.now() > deadline) {
      throw new UserError(`The embedded server does not stop: ${output.trim()}`);
    }
    await sleep(20);
  }
}

/**
 * A lock file left by a killed server, whose pid is another process of the same user by now, keeps PostgreSQL
 * from starting. Removing it would also switch off the check for surviving backends of the killed server, so
 * only the pid is replaced: by ours, which pg_ctl's child knows as its grandparent's and does not mind.
 */
async function disownLockFile(cluster: Cluster): Promise<void> {
  const content = await lockFile(cluster);
  if (content === undefined || process.platform === "win32") return;
  const [pid, ...rest] = content.split("\n");
  if (!isAlive(Number(pid)) || (await servesData(Number(pid), cluster.data))) return;
  const path = join(cluster.data, "postmaster.pid");
  await writeFile(`${path}.disowned`, [process.pid, ...rest].join("\n"), { mode: 0o600 });
  await own(cluster, `${path}.disowned`);
  await rename(`${path}.disowned`, path);
}

async function writeSettings(cluster: Cluster, port: number): Promise<void> {
  const settings: Record<string, string> = {
    port: String(port),
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    lc_messages: "C",
    timezone: "UTC",
    log_timezone: "UTC",
    ...cluster.settings,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`);
  const path = join(cluster.data, ownSettings);
  await writeFile(path, lines.join(""), { mode: 0o600 });
  await own(cluster, path);
}

/** The port of last time, so that clients which know it find the server again. */
async function lastPort(cluster: Cluster): Promise<number> {
  const settings = await readFile(join(cluster.data, ownSettings), "utf8").catch(() => "");
  return Number(/^port = '(\d+)'/m.exec(settings)?.[1] ?? 0);
}

async function freePort(preferred: number): Promise<number> {
  const probe = createServer();
  try {
    return await new Promise<number>((found, failed) => {
      probe.once("error", failed);
      probe.listen(preferred, "127.0.0.1", () => {
        const address = probe.address();
        found(typeof address === "object" && address !== null ? address.port : preferred);
      });
    });
  } catch {
    return freePort(0);
  } finally {
    await new Promise((closed) => probe.close(closed));
  }
}
