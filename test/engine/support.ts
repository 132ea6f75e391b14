/** Accounts, events and rollups in few words, for the tests of the engine. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type postgres from "postgres";
import * as assert from "uvu/assert";
import type { Sql } from "../support/client.js";
import { connect, database } from "../support/database.js";
import { differences, distinctDifferences, verified } from "../support/oracle.js";

export interface Event {
  name?: string | null;
  value?: number | null;
  value_in_business_hours?: number | null;
  account_id?: number | null;
  user_id?: number | null;
  inbox_id?: number | null;
  conversation_id?: number | null;
  created_at?: string | null;
}

let accounts = 0;

/** An account of its own for each test: none disturbs another. */
export function newAccount(): number {
  return ++accounts;
}

const models = new Map<string, Promise<Model>>();

/** A new account with a zone, covered by a backfill unless told otherwise: copies of the first of that zone. */
export async function accountIn(timezone: string, { covered = true } = {}): Promise<number> {
  const account = newAccount();
  const sql = database();
  const model = models.get(timezone);
  if (covered && model !== undefined) {
    await copy(sql, await model, [{ account, timezone }]);
    return account;
  }
  await sql`select rollup.set_reporting_timezone(${account}, ${timezone})`;
  if (!covered) return account;
  await sql`select rollup.backfill(${account})`;
  models.set(timezone, modelOf(sql, account));
  await models.get(timezone);
  return account;
}

/** Accounts like the model, with zones of their own: as set_reporting_timezone makes them, which looks up each zone. */
export async function copyAccount(
  sql: Sql,
  model: number,
  copies: { account: number; timezone: string }[],
): Promise<void> {
  await copy(sql, await modelOf(sql, model), copies);
}

/** What makes an account one with a zone, by table. */
type Model = Record<string, postgres.JSONValue>;

async function modelOf(sql: Sql, account: number): Promise<Model> {
  const [model] = await sql<Model[]>`
    select to_jsonb(s) as account_settings, to_jsonb(c) as account_coverage
    from rollup.account_settings as s join rollup.account_coverage as c using (account_id)
    where s.account_id = ${account}`;
  return model as Model;
}

async function copy(sql: Sql, model: Model, copies: { account: number; timezone: string }[]) {
  for (const [table, row] of Object.entries(model)) {
    const name = sql(`rollup.${table}`);
    await sql`
      insert into ${name}
      select (jsonb_populate_record(null::${name},
        ${sql.json(row)} || jsonb_build_object('account_id', c.account, 'reporting_timezone', c.timezone))).*
      from unnest(${copies.map((one) => one.account)}::int[], ${copies.map((one) => one.timezone)}::text[])
        as c (account, timezone)`;
  }
}

/** One statement that inserts all the events. */
export async function insert(sql: Sql, account: number, ...events: Event[]): Promise<void> {
  const rows = events.map((event) => ({
    name: "first_response",
    value: 1,
    value_in_business_hours: 1,
    account_id: account,
    user_id: null,
    inbox_id: null,
    conversation_id: null,
    created_at: "2026-02-11 12:00:00",
    ...event,
  }));
  await sql`insert into public.reporting_events ${sql(rows)}`;
}

/** Makes something happen behind the trigger's back. */
export async function untracked(work: (sql: Sql) => Promise<unknown>): Promise<void> {
  const sql = connect({ superuser: true, settings: { session_replication_role: "replica" } });
  try {
    await work(sql);
  } finally {
    await sql.end();
  }
}

/** The daily rollups of an account, a line each: date, dimension, id, metric, count, sums. */
export async function rollups(account: number, sql: Sql = database()): Promise<string[]> {
  const rows = await sql<{ line: string }[]>`
    select concat_ws(' ', date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours) as line
    from rollup.daily_rollups where account_id = ${account}`;
  return rows.map(({ line }) => line).sort();
}

/** The stored rows, pending deltas apart. */
export async function stored(account: number, sql: Sql = database()): Promise<string[]> {
  const rows = await sql<{ line: string }[]>`
    select concat_ws(' ', date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours) as line
    from rollup.reporting_events_rollups where account_id = ${account}`;
  return rows.map(({ line }) => line).sort();
}

/** Everything kept of an account, for comparing before and after. */
export async function everything(account: number): Promise<string> {
  const [row] = await database()<{ all: string }[]>`
    select jsonb_build_array(
      (select jsonb_agg(to_jsonb(r) - 'updated_at' order by date, dimension_type, dimension_id, metric)
       from rollup.reporting_events_rollups r where account_id = ${account}),
      (select jsonb_agg(l order by l::text) from rollup.ledger l where account_id = ${account}),
      (select jsonb_agg(p order by p::text) from rollup.previous_dates p where account_id = ${account}))::text as all`;
  return row?.all ?? "";
}

/** How many deltas wait for fold(). */
export async function pending(account: number, sql: Sql = database()): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from rollup.deltas where account_id = ${account}`;
  return row?.count ?? 0;
}

/** The days that are covered and not dirty. */
export async function cleanDays(account: number, sql: Sql = database()): Promise<string> {
  const [row] = await sql<{ days: string }[]>`select rollup.clean_days(${account})::text as days`;
  return row?.days ?? "";
}

/** Fails unless everything on the account's clean days equals the raw events. */
export async function assertExact(account: number, sql: Sql = database()): Promise<void> {
  assert.equal(await differences(sql, account), []);
  assert.equal(await verified(sql, account), []);
  assert.equal(await distinctDifferences(sql, account, await everyRange(account, sql)), []);
}

async function everyRange(account: number, sql: Sql): Promise<{ from: string; to: string }[]> {
  const rows = await sql<{ from: string; to: string }[]>`
    with day as (
      select distinct date from rollup.previous_dates where account_id = ${account} and isfinite(date) order by 1 limit 12
    )
    select a.date as from, b.date as to from day a join day b on a.date <= b.date`;
  return [...rows];
}

/** Every day must be clean and its totals right: for accounts too large to count their ranges anew. */
export async function assertTotalsExactEverywhere(account: number): Promise<void> {
  assert.is(await cleanDays(account), "{(,)}");
  assert.equal(await differences(database(), account), []);
  assert.equal(await verified(database(), account), []);
}

/** The same with every day clean. */
export async function assertExactEverywhere(account: number, sql: Sql = database()): Promise<void> {
  assert.is(await cleanDays(account, sql), "{(,)}");
  await assertExact(account, sql);
}

/** The SQLSTATE with which something fails; "00000" if it does not. */
export async function sqlstate(work: PromiseLike<unknown>): Promise<string> {
  try {
    await work;
    return "00000";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** A hand-off of a conversation. */
export const handoff = {
  name: "conversation_bot_handoff",
  conversation_id: 1,
  user_id: 7,
  created_at: "2026-02-11 12:00:00",
};

/** A client whose warnings are kept. */
export function listening(options: { url?: string; settings?: Record<string, string> } = {}): {
  client: Sql;
  warnings: string[];
} {
  const warnings: string[] = [];
  const client = connect({
    ...options,
    onNotice: ({ severity, message }) => {
      if (severity === "WARNING") warnings.push(String(message));
    },
  });
  return { client, warnings };
}

/** Statements of the host. */
export const operations: Record<string, (client: Sql, account: number) => PromiseLike<unknown>> = {
  "an insert": (client, account) => insert(client, account, { ...handoff, conversation_id: 2 }),
  "an insert of many": (client, account) =>
    insert(
      client,
      account,
      handoff,
      { ...handoff, conversation_id: 2 },
      { name: "reply_time", created_at: "2026-02-13 12:00:00" },
    ),
  "an update": (client, account) =>
    client`update public.reporting_events set conversation_id = 3, user_id = 8 where account_id = ${account}`,
  "a delete": (client, account) =>
    client`delete from public.reporting_events where account_id = ${account}`,
};

/** The file of the registry, with another event counted distinctly. */
export async function registryThatRemembersResolutions(): Promise<string> {
  const registry = await readFile(
    resolve(import.meta.dirname, "../../sql/11_registry.sql"),
    "utf8",
  );
  const last = "('conversation_bot_handoff', 'bot_handoffs_count', 'distinct')";
  assert.ok(registry.includes(last));
  return registry.replace(
    last,
    `${last},\n      ('conversation_resolved', 'unique_resolutions', 'distinct')`,
  );
}
