/** The demo: a support desk's history from nothing to reports, on a database of its own. */

import { type Report, readReport, readSummary, type Summary } from "../command_line/report.js";
import { connect, open, type Sql } from "../database/connection.js";
import { acquireEmbedded } from "../server/server.js";
import { chance, conversations, demoAccounts, demoAgents, events } from "./history.js";

/** The demo's database on the embedded server. */
export const demoDatabase = "reporting_rollup_demo";

/** Drops what an earlier demo left. */
export async function dropDemo(dataFolder: string, log: (line: string) => void): Promise<void> {
  const server = await acquireEmbedded(dataFolder, { database: "postgres", log });
  const sql = connect(server.url, { max: 1 });
  try {
    await sql.alone(`drop database if exists ${demoDatabase} with (force)`);
  } finally {
    await sql.end();
    await server.release({ stop: false });
  }
}

/** What the history amounts to. */
export interface History {
  events: number;
  conversations: number;
}

/** Writes 18 months of events. No account has a time zone yet, so the trigger leaves them alone. */
export async function writeHistory(url: string): Promise<History> {
  const sql = await open(url, { max: 1 });
  try {
    return await sql.transaction(async (transaction) => {
      await transaction.script(chance);
      const begun = await transaction.script(conversations);
      for (const { id, name } of demoAccounts) {
        await transaction`insert into public.accounts (id, name) values (${id}, ${name})`;
      }
      await transaction`
        insert into public.conversations (id, account_id, inbox_id, assignee_id, created_at)
        select id, account_id, inbox_id, user_id, began at time zone timezone at time zone 'UTC'
        from demo_conversations`;
      const written = await transaction.script(events);
      return { events: written.count, conversations: begun.count };
    });
  } finally {
    await sql.end();
  }
}

/** Sets the accounts' time zones, which queues a backfill each, and lets reads use rollups; returns the runs. */
export async function switchOn(sql: Sql): Promise<string[]> {
  await sql`analyze public.reporting_events`;
  for (const { id, timezone } of demoAccounts) {
    await sql`select rollup.set_reporting_timezone(${id}, ${timezone})`;
    await sql`select rollup.set_reporting_events_rollup(${id}, true)`;
  }
  const runs = await sql<{ id: string }[]>`
    select id from rollup.backfill_runs order by id`;
  return runs.map(({ id }) => id);
}

/** What the trigger did with live events. */
export interface LiveEvents {
  inserted: number;
  before: string;
  after: string;
  milliseconds: number;
}

/** Resolves conversations one at a time, as the host would; reads today's count before and after. */
export async function liveEvents(sql: Sql, account: number, number: number): Promise<LiveEvents> {
  const today = async () => {
    const [row] = await sql<{ count: string }[]>`
      select coalesce(sum(r.count), 0)::text as count
      from rollup.daily_rollups as r
      join rollup.account_settings as s using (account_id)
      where r.account_id = ${account} and r.metric = 'resolutions_count' and r.dimension_type = 'account'
        and r.date = (now() at time zone s.reporting_timezone)::date`;
    return row?.count ?? "0";
  };
  const before = await today();
  const started = performance.now();
  for (let n = 0; n < number; n++) {
    await sql`
      insert into public.reporting_events
        (name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id, created_at, updated_at)
      values
        ('conversation_resolved', ${600 + 60 * n}, ${300 + 30 * n}, ${account}, ${account * 10 + 1},
         ${account * 100 + 1 + (n % 3)}, ${1_000_000 + n}, now() at time zone 'UTC', now() at time zone 'UTC')`;
  }
  const milliseconds = (performance.now() - started) / number;
  return { inserted: number, before, after: await today(), milliseconds };
}

/** The demo's reports: six weeks of resolutions, a year of first responses, and a month by agent. */
export async function demoReports(sql: Sql): Promise<{
  resolutions: Report;
  responses: Report;
  agents: Summary;
}> {
  const [first, second] = demoAccounts;
  return {
    resolutions: await readReport(sql, {
      account: first.id,
      metric: "resolutions_count",
      days: 42,
    }),
    responses: await readReport(sql, {
      account: second.id,
      metric: "avg_first_response_time",
      days: 365,
      groupBy: "month",
    }),
    agents: await readSummary(sql, { account: second.id, metric: undefined }, "agent"),
  };
}

/** The number of differences between the rollups and a recomputation from the raw events, and of what was compared. */
export async function compareWithRaw(
  sql: Sql,
): Promise<{ differences: number; rows: string; days: string }> {
  let differences = 0;
  for (const { id } of demoAccounts) {
    const [row] = await sql<{ differences: string }[]>`
      select count(*) as differences from rollup.verify(${id})`;
    differences += Number(row?.differences);
  }
  const [kept] = await sql<{ rows: string; days: string }[]>`
    select count(*) as rows, count(distinct (account_id, date)) as days from rollup.daily_rollups`;
  return { differences, rows: kept?.rows ?? "0", days: kept?.days ?? "0" };
}

export { demoAccounts, demoAgents };
