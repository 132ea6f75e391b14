/** A database of our own on all nodes of a Citus cluster, with the host's table in it. */
import { type Node, nodesOf } from "../../src/database/citus.js";
import { connect as connectOurs } from "../../src/database/connection.js";
import { migrate } from "../../src/database/migrate.js";
import { connect, type Sql } from "../support/client.js";
import { differences, distinctDifferences } from "../support/oracle.js";

const name = "reporting_rollup_citus_test";
const given = process.env.CITUS_DATABASE_URL as string;

export const accounts = Array.from({ length: 20 }, (_, index) => index + 1);
export const zones = ["America/Havana", "Asia/Kolkata", "Pacific/Apia", "America/New_York"];

export interface Cluster {
  /** The coordinator first. */
  nodes: { name: string; url: string; sql: Sql }[];
  coordinator: Sql;
  url: string;
}

function own(url: string): string {
  return url.replace(/^(\w+:\/\/[^/]+)\/[^?]*/, `$1/${name}`);
}

async function nodes(): Promise<Node[]> {
  const sql = connectOurs(given, { max: 1 });
  try {
    return await nodesOf(sql, given);
  } finally {
    await sql.end();
  }
}

/** Makes the database anew on a node. */
async function createOn(url: string): Promise<void> {
  const server = connect(url, { max: 1 });
  await server.unsafe(`drop database if exists ${name} with (force)`);
  await server.unsafe(`create database ${name}`);
  await server.end();
  const sql = connect(own(url), { max: 1 });
  await sql`create extension citus`;
  await sql.end();
}

/** A cluster whose database has nothing but Citus in it. */
export async function createCluster(): Promise<Cluster> {
  const found = await nodes();
  for (const { url } of found) await createOn(url);
  const all = found.map(({ name, url }) => ({
    name,
    url: own(url),
    sql: connect(own(url), { max: 8 }),
  }));
  const coordinator = all[0]?.sql as Sql;
  await coordinator`select citus_set_coordinator_host(${host(found[0])}, ${port(found[0])})`;
  for (const node of found.slice(1)) {
    await coordinator`select citus_add_node(${host(node)}, ${port(node)})`;
  }
  return { nodes: all, coordinator, url: own(given) };
}

const host = (node: Node | undefined) => node?.name.split(":")[0] ?? "";
const port = (node: Node | undefined) => Number(node?.name.split(":")[1]);

/** The worker node of that index, 1 or 2, without anything, as if it were a new server. */
export async function replaceNode(cluster: Cluster, index: number): Promise<void> {
  const { coordinator, nodes: all } = cluster;
  const node = (await nodes())[index];
  await coordinator`select citus_drain_node(${host(node)}, ${port(node)}, shard_transfer_mode := 'block_writes')`;
  await coordinator`select citus_remove_node(${host(node)}, ${port(node)})`;
  // With them go the connections that the nodes keep to the former database.
  await Promise.all(all.map(({ sql }) => sql.end()));
  await createOn(node?.url ?? "");
  cluster.nodes = all.map(({ name, url }) => ({ name, url, sql: connect(url, { max: 8 }) }));
  cluster.coordinator = cluster.nodes[0]?.sql as Sql;
  await cluster.coordinator`select citus_add_node(${host(node)}, ${port(node)})`;
}

/** The host's tables on the coordinator, and our installation. */
export async function installOnOne({ url }: Cluster): Promise<void> {
  await migrate(url, { createHostTables: true });
}

/** As an operator does it: see docs/citus.md. */
export async function distributeHostTable({ coordinator }: Cluster): Promise<void> {
  await coordinator.begin(async (sql) => {
    for (const event of ["insert", "update", "delete", "truncate"]) {
      await sql.unsafe(`drop trigger reporting_events_rollup_${event} on public.reporting_events`);
    }
    await sql`
      alter table public.reporting_events
        drop constraint reporting_events_pkey, add primary key (account_id, id)`;
    await sql`set local citus.shard_count = 8`;
    await sql`select create_distributed_table('public.reporting_events', 'account_id')`;
  });
}

/** The node that has an account, and the shard that has its events. */
export async function place(cluster: Cluster, account: number) {
  const [row] = await cluster.coordinator<{ node: string; shard: string }[]>`
    select format('%s:%s', s.nodename, s.nodeport) as node, s.shardid::text as shard
    from citus_shards as s
    where s.table_name = 'public.reporting_events'::regclass
      and s.shardid = get_shard_id_for_distribution_column('public.reporting_events', ${account}::int)`;
  const node = cluster.nodes.find(({ name }) => name === row?.node) as Cluster["nodes"][number];
  return { ...node, shard: row?.shard ?? "" };
}

/** Moves a shard to the other of the first two workers; returns where it was. */
export async function moveShard(cluster: Cluster, shard: string, mode = "block_writes") {
  const [at] = await cluster.coordinator<{ host: string; port: number }[]>`
    select nodename as host, nodeport as port from citus_shards where shardid = ${shard}`;
  const target = cluster.nodes
    .slice(1)
    .map(({ name }) => name)
    .find((name) => name !== `${at?.host}:${at?.port}`);
  const [to, toPort] = target?.split(":") ?? [];
  await cluster.coordinator`
    select citus_move_shard_placement(
      ${shard}, ${at?.host as string}, ${at?.port as number}, ${to as string}, ${Number(toPort)}, ${mode}::citus.shard_transfer_mode)`;
  return at;
}

const ranges = [
  { from: "2026-01-20", to: "2026-02-20" },
  { from: "2026-02-01", to: "2026-02-03" },
];

/** What is wrong with an account in one snapshot of its node, and whether it has clean days at all. */
export async function look(cluster: Cluster, account: number) {
  const { sql, shard } = await place(cluster, account);
  const events = `public.reporting_events_${shard}`;
  const found = [
    ...(await differences(sql, account, events)),
    ...(await distinctDifferences(sql, account, ranges, events)),
  ];
  const [clean] = await sql<{ clean: boolean }[]>`
    select rollup.clean_days(${account}) <> '{}' as clean`;
  return { found, clean: clean?.clean ?? false };
}

/** What rollup.verify says of all accounts, called on the coordinator, and how many of them have clean days. */
export async function lookAtAll(cluster: Cluster) {
  const problems: string[] = [];
  let clean = 0;
  for (const account of accounts) {
    const seen = await look(cluster, account);
    if (seen.clean) clean++;
    const rows = await cluster.coordinator`select * from rollup.verify(${account})`;
    problems.push(...[...seen.found, ...rows].map((row) => `${account}: ${JSON.stringify(row)}`));
  }
  return { problems, clean };
}

export async function backfillAll({ coordinator }: Cluster): Promise<void> {
  for (const account of accounts) await coordinator`select rollup.backfill(${account})`;
}
