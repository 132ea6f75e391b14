/**
 * The embedded PostgreSQL server: whoever starts it stops it unless somebody else uses it. An advisory lock held by each user says
 * that it is in use, so nothing of ours can be left behind stale.
 */
import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Config } from "../command_line/config.js";
import { connect, type Sql } from "../database/connection.js";
import { errorCode, isLostConnection } from "../database/errors.js";
import {
  type Cluster,
  type ClusterOptions,
  clusterUrl,
  passfile,
  prepareCluster,
} from "./cluster.js";
import { patience, runningPort, startServer, stopServer } from "./postmaster.js";
import { isAlive } from "./processes.js";

export { linkLibraries } from "./binaries.js";
export { type Cluster, clusterUrl, prepareCluster } from "./cluster.js";
export { runningPort, startServer, stopServer } from "./postmaster.js";

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
      if (!isLostConnection(error) || Date.now() > deadline) throw error;
      // It is just starting, or just being stopped by its last user.
      await sleep(100);
    }
  }
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
  const sql = connect(url, { max: 1 });
  try {
    await sql.alone(`create database "${name.replaceAll('"', '""')}" template template0`);
  } catch (error) {
    if (!["42P04", "23505"].includes(errorCode(error) ?? "")) throw error;
  } finally {
    await sql.end();
  }
}
