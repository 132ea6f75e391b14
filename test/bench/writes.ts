/** W: what the host pays when it writes events. */
import type { Driver, Load } from "./driver.js";
import { inserts, insertsAndUpserts, numbers } from "./events.js";
import { type Database, fill, type Ground, settle } from "./ground.js";
import { type Figures, interleave, ratios, timed } from "./measure.js";

/** W1, W1a. */
export async function singleInserts(ground: Ground, driver: Driver): Promise<Figures[]> {
  const database = await ground.database("single_inserts");
  await fill(database, { events: 70_000, days: 30 });
  const load: Omit<Load, "scripts"> = {
    url: database.url,
    clients: 1,
    numbers: numbers(),
    extent: { transactions: 10_000 },
    settings: { synchronous_commit: "off" },
  };
  const figures = await interleave(
    {
      none: () => perEvent(database, driver, { ...load, scripts: inserts("peer") }),
      "app upsert": () => perEvent(database, driver, { ...load, scripts: insertsAndUpserts() }),
      inline: async () => {
        await setMode(database, "inline");
        return perEvent(database, driver, { ...load, scripts: inserts("public") });
      },
      append: async () => {
        await setMode(database, "append");
        return perEvent(database, driver, { ...load, scripts: inserts("public") });
      },
    },
    { rounds: 9 },
  );
  await database.drop();
  const overhead = (mode: "inline" | "append") =>
    ratios(
      figures,
      ({ none = 0, "app upsert": app = 0, [mode]: ours = 0 }) => (ours - none) / (app - none),
    );
  return [
    { id: "W1", unit: "µs", variants: figures, ratios: overhead("inline") },
    { id: "W1a", unit: "µs", variants: figures, ratios: overhead("append") },
  ];
}

/** Microseconds for each event; what was left to fold is folded outside of the timed part. */
async function perEvent(database: Database, driver: Driver, load: Load): Promise<number> {
  await settle(database);
  const rate = await driver(load);
  await database.sql`select rollup.fold()`;
  return 1e6 / rate;
}

async function setMode({ sql }: Database, mode: "inline" | "append"): Promise<void> {
  await sql`select rollup.set_write_mode(1, ${mode})`;
}

/** W3. */
export async function bulkInsert(ground: Ground): Promise<Figures[]> {
  const database = await ground.database("bulk_insert");
  const { sql } = database;
  await fill(database, { events: 70_000, days: 30 });
  await sql`create table peer.staged as select * from peer.events(1, 100000, 30)`;
  const insert = (schema: "public" | "peer") => async () => {
    // Conversations that nobody has seen before.
    await sql`update peer.staged set conversation_id = conversation_id + 100000`;
    await settle(database);
    return timed(
      () => sql`
        insert into ${sql(schema)}.reporting_events (
          name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id,
          event_start_time, event_end_time, created_at, updated_at)
        select * from peer.staged`,
    );
  };
  const figures = await interleave({ none: insert("peer"), ours: insert("public") }, { rounds: 7 });
  await database.drop();
  return [
    {
      id: "W3",
      unit: "ms",
      variants: figures,
      ratios: ratios(figures, ({ none = 0, ours = 0 }) => ours / none),
    },
  ];
}
