/** The server and the databases that everything is measured on. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
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
import { connect, type Sql } from "../support/client.js";

const template = "template_bench";

/** The zone of all accounts. */
export const timezone = "America/New_York";

/** Like a small production server; nothing that decides about durability or plans is changed. */
const settings = {
  shared_buffers: "512MB",
  effective_cache_size: "2GB",
  max_wal_size: "8GB",
  min_wal_size: "1GB",
  checkpoint_timeout: "30min",
};

export interface Database {
  url: string;
  name: string;
  /** A single connection. */
  sql: Sql;
  drop(): Promise<void>;
}

export interface Ground {
  /** A new database: migrated, with the peers beside; or a clone of one that nobody is connected to. */
  database(name: string, of?: string): Promise<Database>;
  serverVersion: string;
  stop(): Promise<void>;
}

export async function prepareGround(packageName: string): Promise<Ground> {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-bench-"));
  const cluster = await prepareCluster(folder, { package: packageName, settings });
  const port = await startServer(cluster);
  const stop = async () => {
    await stopServer(cluster);
    await rm(cluster.folder, { recursive: true, force: true });
  };
  try {
    const server = connect(await clusterUrl(cluster, port, "postgres"), { max: 1 });
    await server`create database ${server(template)} template template0`;
    await prepareTemplate(await clusterUrl(cluster, port, template));
    const [row] = await server<{ version: string }[]>`
      select current_setting('server_version') as version`;
    return {
      database: (name, of = template) => makeDatabase(cluster, port, server, { name, of }),
      serverVersion: row?.version ?? "",
      stop: async () => {
        await server.end();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function prepareTemplate(url: string): Promise<void> {
  await migrate(url, { current: true, createHostTables: true });
  const sql = connect(url, { max: 1 });
  await sql.unsafe(await readFile(join(import.meta.dirname, "peers.sql"), "utf8"));
  await sql.end();
}

async function makeDatabase(
  cluster: Cluster,
  port: number,
  server: Sql,
  { name, of }: { name: string; of: string },
): Promise<Database> {
  // Not through the log, which would take longest of all.
  await server`create database ${server(name)} template ${server(of)} strategy file_copy`;
  const url = await clusterUrl(cluster, port, name);
  const sql = connect(url, { max: 1, applicationName: "bench" });
  return {
    name,
    url,
    sql,
    drop: async () => {
      await sql.end();
      await server`drop database ${server(name)} with (force)`;
    },
  };
}

/** A further connection. */
export function connectTo({ url }: Database): Sql {
  return connect(url, { max: 1, applicationName: "bench" });
}

export interface Events {
  accounts?: number[];
  /** Of each account. */
  events: number;
  days: number;
}

/** Writes the events of accounts in the order of time. */
export async function writeEvents(
  { sql }: Pick<Database, "sql">,
  { accounts = [1], events, days }: Events,
): Promise<void> {
  // Past the triggers: nothing is counted of accounts that are not switched on yet.
  await sql`set session_replication_role = replica`;
  await sql`select setseed(0.5)`;
  await sql`
    insert into public.reporting_events (${eventColumns(sql)})
    select e.*
    from unnest(${accounts}::int[]) as a
    cross join lateral peer.events(a, ${events}, ${days}) as e
    order by e.created_at`;
  await sql`reset session_replication_role`;
  await sql`vacuum (analyze) public.reporting_events`;
}

/** The same, and switches the accounts on, backfilled and read from rollups. */
export async function fill(database: Database, events: Events): Promise<void> {
  await writeEvents(database, events);
  for (const account of events.accounts ?? [1]) await switchOn(database, account);
}

/** Gives the tables without our trigger the same events. */
export async function copyToPeers({ sql }: Database): Promise<void> {
  for (const schema of ["peer", "floor"]) {
    await sql`
      insert into ${sql(schema)}.reporting_events (${eventColumns(sql)})
      select ${eventColumns(sql)} from public.reporting_events order by id`;
  }
}

export function eventColumns(sql: Sql) {
  return sql`
    name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id,
    event_start_time, event_end_time, created_at, updated_at`;
}

export async function switchOn({ sql }: Pick<Database, "sql">, account: number): Promise<void> {
  await sql`select rollup.set_reporting_timezone(${account}, ${timezone})`;
  await sql`select rollup.set_reporting_events_rollup(${account}, true)`;
  await sql`select rollup.backfill(${account})`;
}

/** Everything clean and known to the planner, as autovacuum leaves it. */
export async function tidy({ sql }: Pick<Database, "sql">): Promise<void> {
  await sql`vacuum (analyze)`;
}

/**
 * The same, and on disk, so that no later part pays for an earlier one. Not before many short parts: the first change
 * of a page after a checkpoint writes all of it to the log, which over the minutes between checkpoints is nothing.
 */
export async function settle(database: Pick<Database, "sql">): Promise<void> {
  await tidy(database);
  await database.sql`checkpoint`;
}

/** What is said of a figure whose rollups are not, in the end, what the raw events say. A fast wrong answer is none. */
export async function exactness(
  { sql }: Pick<Database, "sql">,
  accounts = 1,
): Promise<{ failed?: boolean; notes?: string[] }> {
  await sql`select rollup.fold()`;
  const [found] = await sql<{ differences: string; marks: string; unclean: string }[]>`
    select
      (select count(*) from generate_series(1, ${accounts}::int) as a cross join lateral rollup.verify(a)) as differences,
      (select count(*) from rollup.dirty_marks) as marks,
      (
        select count(*) from generate_series(1, ${accounts}::int) as a
        where not rollup.clean_days(a) @> current_date
      ) as unclean`;
  const wrong = Object.entries(found ?? {}).filter(([, count]) => count !== "0");
  if (wrong.length === 0) return {};
  return { failed: true, notes: wrong.map(([name, count]) => `NOT EXACT: ${count} ${name}`) };
}
