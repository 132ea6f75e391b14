import { setTimeout as sleep } from "node:timers/promises";
import { inNode, nodesOf, ownSettings } from "./citus.js";
import { open, type Sql, type Transaction } from "./connection.js";
import { errorCode, isLockConflict, UserError } from "./errors.js";
import { ownMigrations } from "./migrate.js";
import { mark, readerRole, readSchemas, refuseForeign, type Schema } from "./ours.js";

export interface UninstallOptions {
  /** How long to wait for others' locks, in milliseconds. */
  patience?: number;
  /** Receives a line for what stays. */
  log?: (line: string) => void;
}

/**
 * Removes what migrate made, in one transaction: the triggers, the schemas, the record of our migrations. The host's tables stay.
 * From the coordinator of a Citus cluster also on its other nodes, one after the other.
 * Waits for locks only a moment at a time: the host's writers would queue behind us. Returns the schemas removed, and the readers'
 * role if nobody else needs it.
 */
export async function uninstall(
  url: string,
  { patience = 60_000, log = () => {} }: UninstallOptions = {},
): Promise<string[]> {
  const hashes = await ownMigrations();
  const sql = await open(url, { max: 1, settings: ownSettings });
  try {
    const nodes = await nodesOf(sql, url);
    const onWorkerNode = nodes.some(({ here, coordinator }) => here && !coordinator);
    if (nodes.length > 0 && !onWorkerNode) {
      await undistribute(sql);
      for (const { name, url } of nodes.filter(({ here }) => !here)) {
        await uninstall(url, { patience, log }).catch((error) => {
          throw inNode(error, name);
        });
      }
    }
    for (const deadline = Date.now() + patience; ; await sleep(500)) {
      try {
        return await sql.transaction((transaction) =>
          remove(transaction, hashes, onWorkerNode, log),
        );
      } catch (error) {
        if (!isLockConflict(error)) throw error;
        if (Date.now() > deadline) {
          throw new UserError("Gave up waiting for another transaction that uses the tables.", {
            hint: "Let it end (see pg_stat_activity), or stop the worker; nothing was removed.",
            cause: error,
          });
        }
      }
    }
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** What the nodes share, which Citus must see go. */
async function undistribute(sql: Sql): Promise<void> {
  const [found] = await sql<{ found: boolean }[]>`
    select to_regproc('rollup.undistribute') is not null as found`;
  if (found?.found) await sql`select rollup.undistribute()`;
}

async function remove(
  transaction: Transaction,
  hashes: string[],
  onWorkerNode: boolean,
  log: (line: string) => void,
): Promise<string[]> {
  const present = await readSchemas(transaction, hashes, onWorkerNode);
  refuseForeign(present);
  await refuseDependents(transaction, present);
  await transaction.script("set local lock_timeout to '200ms'");
  const removed: string[] = [];
  for (const { name, ours } of present) {
    if (name === "graphile_migrate") {
      await transaction`delete from graphile_migrate.migrations where hash = any(${hashes}::text[])`;
      if (!ours || (await inUse(transaction))) continue;
      await transaction.script("drop table graphile_migrate.current, graphile_migrate.migrations");
      await transaction.script("drop schema graphile_migrate");
    } else {
      // The triggers go with their functions.
      await transaction.script(`drop schema ${name} cascade`);
    }
    removed.push(name);
  }
  const obstacle = removed.includes("rollup") ? await dropReader(transaction) : undefined;
  if (obstacle === "") removed.push(readerRole);
  else if (obstacle !== undefined) log(`The role ${readerRole} stays: ${obstacle}.`);
  return removed;
}

/** Drops the readers' role, which is the whole server's. Returns why it stays: nothing if it went; undefined if there is none. */
async function dropReader(transaction: Transaction): Promise<string | undefined> {
  const [role] = await transaction<{ ours: boolean; members: string | null }[]>`
    select
      coalesce(shobj_description(r.oid, 'pg_authid') = ${mark}, false) as ours,
      -- Who made it is a member by that alone.
      (select string_agg(m.member::regrole::text, ', ') from pg_auth_members as m
       where m.roleid = r.oid and m.member <> quote_ident(current_user)::regrole) as members
    from pg_roles as r where r.rolname = ${readerRole}`;
  if (role === undefined) return undefined;
  if (!role.ours) return "somebody else made it";
  if (role.members !== null) return `it is granted to ${role.members}`;
  try {
    await transaction.script("savepoint reader");
    await transaction.script(`drop role ${readerRole}`);
    return "";
  } catch (error) {
    if (errorCode(error) !== "2BP01" && errorCode(error) !== "42501") throw error;
    await transaction.script("rollback to savepoint reader");
    return (error as Error).message;
  }
}

/** Whether the schema holds more than an empty history. */
async function inUse(transaction: Transaction): Promise<boolean> {
  const found = await transaction`
    select from graphile_migrate.migrations
    union all
    select from pg_class
    where relnamespace = to_regnamespace('graphile_migrate') and relkind <> 'i' and relname not in ('migrations', 'current')`;
  return found.length > 0;
}

/** Whatever somebody else has built upon ours would go along: that is theirs to decide. */
async function refuseDependents(transaction: Transaction, present: Schema[]): Promise<void> {
  const names = present.map(({ name }) => name);
  const found = await transaction<{ description: string }[]>`
    with recursive ours (classid, objid) as (
      select d.classid, d.objid
      from pg_depend as d
      where d.refclassid = 'pg_namespace'::regclass
        and d.refobjid in (select oid from pg_namespace where nspname = any(${names}::text[]))
      union
      select d.classid, d.objid
      from pg_depend as d
      join ours as o on d.refclassid = o.classid and d.refobjid = o.objid
      where d.deptype in ('a', 'i', 'P', 'S')
    )
    select distinct pg_describe_object(d.classid, d.objid, d.objsubid) as description
    from pg_depend as d
    join ours as o on d.refclassid = o.classid and d.refobjid = o.objid
    where not exists (select from ours as x where x.classid = d.classid and x.objid = d.objid)
      and not exists (
        select
        from pg_trigger as t
        where d.classid = 'pg_trigger'::regclass and t.oid = d.objid
          and starts_with(t.tgname, 'reporting_events_rollup_')
      )
    order by 1`;
  if (found.length === 0) return;
  throw new UserError("Something of yours depends on what would be removed.", {
    detail: found.map(({ description }) => description).join("\n"),
    hint: "Nothing was removed. Drop or change that first.",
  });
}
