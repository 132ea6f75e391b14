/** B, R and S: a year of one account, a million events, in a table that it shares with another as large. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Driver } from "./driver.js";
import { inserts, numbers } from "./events.js";
import {
  connectTo,
  type Database,
  eventColumns,
  exactness,
  fill,
  type Ground,
  settle,
  timezone,
  writeEvents,
} from "./ground.js";
import { type Figures, interleave, percentile, ratios, summarize, timed } from "./measure.js";

export const events = 1_000_000;
export const days = 365;

/** What this file's rows are measured on. */
export interface History {
  /** The events of both accounts, switched on but not backfilled: a name to clone. */
  raw: string;
  /** A clone with everything backfilled. */
  database(): Promise<Database>;
}

export async function prepareHistory(ground: Ground): Promise<History> {
  const raw = await ground.database("history_raw");
  await writeEvents(raw, { accounts: [1, 2], events, days });
  for (const account of [1, 2]) {
    await raw.sql`select rollup.set_reporting_timezone(${account}, ${timezone})`;
    await raw.sql`select rollup.set_reporting_events_rollup(${account}, true)`;
  }
  await raw.sql.end();
  let backfilled: Promise<Database> | undefined;
  const backfillBoth = async () => {
    const database = await ground.database("history", raw.name);
    for (const account of [1, 2]) await database.sql`select rollup.backfill(${account})`;
    return database;
  };
  return {
    raw: raw.name,
    database: () => {
      backfilled ??= backfillBoth();
      return backfilled;
    },
  };
}

/** B1, B1r, B2: each first backfill is one of a fresh clone, the next goes over what it has written. */
export async function backfill(ground: Ground, { raw }: History): Promise<Figures[]> {
  const loop = `call peer.backfill(1, '${timezone}', current_date - ${days + 1}, current_date)`;
  const ours = "select rollup.backfill(1)";
  const figures: Record<string, number[]> = {};
  let differences = 0;
  for (let round = 0; round < 3; round++) {
    const database = await ground.database(`history_${round}`, raw);
    await database.sql`set max_parallel_workers_per_gather = 0`;
    await database.sql.unsafe(scan);
    await database.sql`checkpoint`;
    const take = async (name: string, statement: string) => {
      const taken = await timed(() => database.sql.unsafe(statement));
      figures[name] = [...(figures[name] ?? []), taken];
    };
    const steps: [string, string][][] = [
      [
        ["day loop", loop],
        ["day loop again", loop],
      ],
      [
        ["ours", ours],
        ["ours again", ours],
      ],
    ];
    for (const [name, statement] of (round % 2 === 0 ? steps : steps.reverse()).flat()) {
      // The server's own number of cores is for those to whom it is left.
      await database.sql`reset max_parallel_workers_per_gather`;
      await take(name, statement);
    }
    await database.sql`set max_parallel_workers_per_gather = 0`;
    await take("scan", scan);
    await take("hash aggregate", hashAggregate);
    differences += await differencesFromLoop(database);
    await database.drop();
  }
  const figure = (id: string, theirs: string, own: string): Figures => ({
    id,
    unit: "ms",
    variants: { [theirs]: figures[theirs] ?? [], [own]: figures[own] ?? [] },
    ratios: ratios(figures, (round) => (round[own] ?? 0) / (round[theirs] ?? 0)),
    ...(differences > 0 && {
      failed: true,
      notes: [`NOT EXACT: ${differences} rows differ from the day loop's`],
    }),
  });
  const floor = summarize(figures["hash aggregate"] ?? []).median;
  const floorOf = (theirs: string) =>
    `floor, one hash aggregate: ${(floor / summarize(figures[theirs] ?? []).median).toFixed(2)}`;
  return [
    figure("B1", "day loop", "ours"),
    figure("B1r", "day loop again", "ours again"),
    figure("B2", "scan", "ours"),
  ].map((it, index) => ({
    ...it,
    notes: [floorOf(["day loop", "day loop again", "scan"][index] as string), ...(it.notes ?? [])],
  }));
}

const scan = "select count(*), sum(value) from public.reporting_events where account_id = 1";

/** The least that a backfill has to do: the totals at the finest grain. */
const hashAggregate = `
  select count(*), sum(g.count), sum(g.value), sum(g.business) from (
    select
      (e.created_at at time zone 'UTC' at time zone '${timezone}')::date as day, e.name, e.user_id, e.inbox_id, count(*) as count,
      sum((e.value * 1e6)::bigint) as value, sum((e.value_in_business_hours * 1e6)::bigint) as business
    from public.reporting_events as e
    where e.account_id = 1
    group by 1, 2, 3, 4
  ) as g`;

async function differencesFromLoop({ sql }: Database): Promise<number> {
  const [{ differences = 0 } = {}] = await sql<{ differences: number }[]>`
    select count(*)::int as differences
    from peer.reporting_events_rollups as theirs
    full join (select * from rollup.daily_rollups where account_id = 1) as ours
      using (account_id, date, dimension_type, dimension_id, metric)
    where theirs.count is distinct from ours.count
      or abs(theirs.sum_value - ours.sum_value::double precision) > 1e-3
      or abs(theirs.sum_value_business_hours - ours.sum_value_business_hours::double precision) > 1e-3`;
  return differences;
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

/** R5: a month's series with many deltas pending. */
export async function readsBesideDeltas(database: Database): Promise<Figures[]> {
  const { sql } = database;
  const series = `
    select * from rollup.timeseries(1, 'avg_first_response_time',
      (current_date - 30)::timestamp at time zone '${timezone}', ${until})`;
  await settle(database);
  const none: number[] = [];
  const pending: number[] = [];
  for (let round = 0; round < 7; round++) none.push(await repeated(database, 20, series));
  await sql`select rollup.set_write_mode(1, 'append')`;
  let deltas = 0;
  for (let statements = 0; deltas < 100_000 && statements < 40; statements++) {
    // Of the last days, in statements of a size that the trigger leaves to fold().
    await sql`
      insert into public.reporting_events (${eventColumns(sql)})
      select * from peer.events(1, 12000, 30)`;
    const [row] = await sql<{ deltas: number }[]>`
      select pending_deltas::int as deltas from rollup.account_status where account_id = 1`;
    deltas = row?.deltas ?? 0;
  }
  if (deltas < 100_000) throw new Error(`there are ${deltas} deltas only`);
  await settle(database);
  const floor: number[] = [];
  for (let round = 0; round < 7; round++) {
    pending.push(await repeated(database, 5, series));
    floor.push(await repeated(database, 5, pendingSums));
  }
  const floorRatio = summarize(floor).median / summarize(none).median;
  await sql`select rollup.set_write_mode(1, 'inline')`;
  await sql`select rollup.fold(1)`;
  const exact = await exactness(database);
  return [
    {
      id: "R5",
      unit: "ms",
      variants: { none, pending },
      ratios: ratios({ none, pending }, (round) => (round.pending ?? 0) / (round.none ?? 0)),
      ...exact,
      notes: [
        `${deltas} deltas pending`,
        `floor, their sums of that event alone: ${floorRatio.toFixed(1)}`,
        ...(exact.notes ?? []),
      ],
    },
  ];
}

/** The least that a read beside pending deltas has to do. */
const pendingSums = `
  select date, sum(count), sum(sum_value), sum(count_value)
  from rollup.deltas
  where account_id = 1 and event_name = 'first_response' and date between current_date - 30 and current_date - 1
  group by 1`;

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
