/** B, R and S: a year of one account, a million events. */
import { type Database, fill, type Ground, settle, timezone } from "./ground.js";
import { type Figures, interleave, ratios, timed } from "./measure.js";

export const events = 1_000_000;
export const days = 365;

/** The database of this file's rows. */
export async function prepareHistory(ground: Ground): Promise<Database> {
  const database = await ground.database("history");
  await fill(database, { events, days });
  return database;
}

/** B1, B2. */
export async function backfill(database: Database): Promise<Figures[]> {
  const { sql } = database;
  const figures = await interleave(
    {
      "day loop": async () => {
        await sql`truncate peer.reporting_events_rollups`;
        await settle(database);
        return timed(
          () => sql`
            call peer.backfill(1, ${timezone}, current_date - ${days}::int, current_date)`,
        );
      },
      ours: async () => {
        await sql`truncate rollup.reporting_events_rollups, rollup.ledger, rollup.previous_dates`;
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
  return [
    {
      id: "B1",
      unit: "ms",
      variants: { "day loop": loop, ours },
      ratios: ratios(figures, ({ "day loop": loop = 0, ours = 0 }) => ours / loop),
    },
    {
      id: "B2",
      unit: "ms",
      variants: { scan, ours },
      ratios: ratios(figures, ({ scan = 0, ours = 0 }) => ours / scan),
    },
  ];
}

/** S1. */
export async function size(database: Database): Promise<Figures[]> {
  const { sql } = database;
  await sql`truncate rollup.reporting_events_rollups, rollup.ledger, rollup.previous_dates`;
  await sql`select rollup.backfill(1)`;
  await settle(database);
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
