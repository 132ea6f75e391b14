/** B, R and S: a year of one account, a million events, in a table that it shares with another as large. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Driver } from "./driver.js";
import { inserts, numbers } from "./events.js";
import {
  connectTo,
  type Database,
  exactness,
  fill,
  type Ground,
  settle,
  timezone,
} from "./ground.js";
import { type Figures, interleave, percentile, ratios, summarize, timed } from "./measure.js";

export const events = 1_000_000;
export const days = 365;

/** The database of this file's rows. */
export async function prepareHistory(ground: Ground): Promise<Database> {
  const database = await ground.database("history");
  await fill(database, { accounts: [1, 2], events, days });
  return database;
}

/** B1, B2. */
export async function backfill(database: Database): Promise<Figures[]> {
  const { sql } = database;
  const figures = await interleave(
    {
      "day loop": async () => {
        await sql`delete from peer.reporting_events_rollups where account_id = 1`;
        await settle(database);
        return timed(
          () => sql`
            call peer.backfill(1, ${timezone}, current_date - ${days + 1}::int, current_date)`,
        );
      },
      ours: async () => {
        await sql`delete from rollup.reporting_events_rollups where account_id = 1`;
        await sql`delete from rollup.ledger where account_id = 1`;
        await sql`delete from rollup.previous_dates where account_id = 1`;
        await settle(database);
        return timed(() => sql`select rollup.backfill(1)`);
      },
      scan: () =>
        timed(
          () => sql`select count(*), sum(value) from public.reporting_events where account_id = 1`,
        ),
    },
    { rounds: 5 },
  );
  const { "day loop": loop = [], ours = [], scan = [] } = figures;
  const [{ differences = "" } = {}] = await sql<{ differences: string }[]>`
    select count(*) as differences
    from peer.reporting_events_rollups as theirs
    full join rollup.daily_rollups as ours using (account_id, date, dimension_type, dimension_id, metric)
    where account_id = 1 and (
      theirs.count is distinct from ours.count
      or abs(theirs.sum_value - ours.sum_value::double precision) > 1e-3
      or abs(theirs.sum_value_business_hours - ours.sum_value_business_hours::double precision) > 1e-3
    )`;
  return [
    {
      id: "B1",
      unit: "ms",
      variants: { "day loop": loop, ours },
      ratios: ratios(figures, ({ "day loop": loop = 0, ours = 0 }) => ours / loop),
      ...(differences !== "0" && {
        failed: true,
        notes: [`NOT EXACT: ${differences} rows differ from the day loop's`],
      }),
    },
    {
      id: "B2",
      unit: "ms",
      variants: { scan, ours },
      ratios: ratios(figures, ({ scan = 0, ours = 0 }) => ours / scan),
    },
  ];
}

/** S1: of both accounts, just backfilled. */
export async function size({ sql }: Database): Promise<Figures[]> {
  const tables = await sql<{ name: string; bytes: string }[]>`
    select relname as name, pg_total_relation_size(oid) as bytes
    from pg_class
    where relkind = 'r' and (relnamespace = 'rollup'::regnamespace or oid = 'public.reporting_events'::regclass)
    order by 2 desc`;
  const bytes = (wanted: (name: string) => boolean) =>
    tables.filter(({ name }) => wanted(name)).reduce((sum, table) => sum + Number(table.bytes), 0);
  const raw = bytes((name) => name === "reporting_events");
  const ours = bytes((name) => name !== "reporting_events");
  const largest = tables.filter(({ name }) => name !== "reporting_events").slice(0, 3);
  return [
    {
      id: "S1",
      unit: "bytes",
      variants: { raw: [raw], ours: [ours] },
      ratios: [ours / raw],
      notes: largest.map(({ name, bytes }) => `${name} ${(Number(bytes) / 1e6).toFixed(1)} MB`),
    },
  ];
}

/** B3: single inserts at a steady rate, with and without a backfill of the same account beside them. */
export async function backfillBesideInserts(database: Database): Promise<Figures[]> {
  const backfiller = connectTo(database);
  const figures = await interleave(
    {
      quiet: async () => {
        await settle(database);
        return percentile(await paced(database, () => sleep(4000)), 0.99);
      },
      backfill: async () => {
        await settle(database);
        const latencies = await paced(database, async () => {
          const until = performance.now() + 4000;
          while (performance.now() < until) await backfiller`select rollup.backfill(1)`;
        });
        return percentile(latencies, 0.99);
      },
    },
    { rounds: 3, warmUp: 0 },
  );
  await backfiller.end();
  return [
    {
      id: "B3",
      unit: "ms",
      variants: figures,
      ratios: ratios(figures, ({ quiet = 0, backfill = 0 }) => backfill / quiet),
      ...(await exactness(database)),
    },
  ];
}

/** Inserts an event every five milliseconds as long as something else lasts; how long each took. */
async function paced(database: Database, meanwhile: () => Promise<void>): Promise<number[]> {
  const sql = connectTo(database);
  const latencies: number[] = [];
  let over = false;
  const inserting = (async () => {
    for (let count = 0; !over; count++) {
      const pause = sleep(5);
      latencies.push(
        await timed(
          () => sql`
            insert into public.reporting_events (name, value, value_in_business_hours, account_id, inbox_id, user_id,
              conversation_id, created_at, updated_at)
            values (${count % 7 === 0 ? "conversation_bot_handoff" : "reply_time"}, ${count}, ${count}, 1, ${count % 5},
              ${count % 20}, ${count}, now() at time zone 'UTC', now() at time zone 'UTC')`,
        ),
      );
      await pause;
    }
  })();
  await meanwhile();
  over = true;
  await inserting;
  await sql.end();
  return latencies;
}

/** R1, R3, R4: a year of one account, read as its users would without rollups, and with them. */
export async function reads(database: Database): Promise<Figures[]> {
  await settle(database);
  return [
    await compare(database, "R1", dailySeries),
    await compare(database, "R3", agentSummary),
    await compare(database, "R4", distinctConversations),
  ];
}

/** R2: the same series of an account with ten times the events. */
export async function readsOfMore(database: Database): Promise<Figures[]> {
  await fill(database, { accounts: [3], events: events * 10, days });
  await settle(database);
  const figures = await interleave(
    {
      "1 ×": () => repeated(database, 20, dailySeries(1).ours),
      "10 ×": () => repeated(database, 20, dailySeries(3).ours),
    },
    { rounds: 9 },
  );
  return [
    {
      id: "R2",
      unit: "ms",
      variants: figures,
      ratios: ratios(figures, ({ "1 ×": one = 0, "10 ×": ten = 0 }) => ten / one),
    },
  ];
}

interface Reading {
  raw: string;
  ours: string;
}

const since = `(current_date - ${days})::timestamp at time zone '${timezone}'`;
const until = `current_date::timestamp at time zone '${timezone}'`;
const inRange = `created_at >= ${since} at time zone 'UTC' and created_at < ${until} at time zone 'UTC'`;

const dailySeries = (account: number): Reading => ({
  raw: `
    select (created_at at time zone 'UTC' at time zone '${timezone}')::date as day, avg(value), count(*)
    from public.reporting_events
    where account_id = ${account} and name = 'first_response' and ${inRange}
    group by 1
    order by 1`,
  ours: `select * from rollup.timeseries(${account}, 'avg_first_response_time', ${since}, ${until})`,
});

const agentSummary = (account: number): Reading => ({
  raw: `
    select user_id,
      count(*) filter (where name = 'conversation_resolved'),
      avg(value) filter (where name = 'conversation_resolved'),
      avg(value) filter (where name = 'first_response'),
      avg(value) filter (where name = 'reply_time')
    from public.reporting_events
    where account_id = ${account} and name in ('conversation_resolved', 'first_response', 'reply_time')
      and user_id is not null and ${inRange}
    group by 1
    order by 1`,
  ours: `select * from rollup.summary(${account}, 'agent', ${since}, ${until})`,
});

const distinctConversations = (account: number): Reading => ({
  raw: `
    select count(distinct conversation_id)
    from public.reporting_events
    where account_id = ${account} and name = 'conversation_bot_handoff' and ${inRange}`,
  ours: `select * from rollup.aggregate(${account}, 'bot_handoffs_count', ${since}, ${until})`,
});

async function compare(
  database: Database,
  id: string,
  reading: (account: number) => Reading,
): Promise<Figures> {
  const { raw, ours } = reading(1);
  const figures = await interleave(
    { raw: () => repeated(database, 3, raw), ours: () => repeated(database, 20, ours) },
    { rounds: 7 },
  );
  return {
    id,
    unit: "ms",
    variants: figures,
    ratios: ratios(figures, ({ raw = 0, ours = 0 }) => raw / ours),
  };
}

/** The median time of a prepared statement. */
async function repeated({ sql }: Database, times: number, statement: string): Promise<number> {
  const taken: number[] = [];
  for (let i = 0; i < times; i++) {
    taken.push(await timed(() => sql.unsafe(statement, [], { prepare: true })));
  }
  return summarize(taken).median;
}

/** W5: a materialized view of a year's daily totals, refreshed, and the same kept up to date by 1,000 inserts. */
export async function freshness(database: Database, driver: Driver): Promise<Figures[]> {
  const { sql, url } = database;
  await sql`refresh materialized view peer.daily_totals`;
  const figures = await interleave(
    {
      "materialized view": async () => {
        await settle(database);
        return timed(() => sql`refresh materialized view peer.daily_totals`);
      },
      ours: async () => {
        await settle(database);
        const rate = await driver({
          url,
          clients: 1,
          scripts: inserts("public"),
          numbers: numbers(),
          extent: { transactions: 1000 },
        });
        return 1e6 / rate;
      },
    },
    { rounds: 3, warmUp: 0 },
  );
  return [
    {
      id: "W5",
      unit: "ms",
      variants: figures,
      ratios: ratios(figures, ({ "materialized view": refresh = 0, ours = 0 }) => refresh / ours),
    },
  ];
}
