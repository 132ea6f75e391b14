/** W: what the host pays when it writes events. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Driver, Script } from "./driver.js";
import { inserts, insertsAndUpserts, numbers } from "./events.js";
import {
  connectTo,
  copyToPeer,
  type Database,
  eventColumns,
  exactness,
  fill,
  type Ground,
  settle,
  switchOn,
  tidy,
} from "./ground.js";
import { type Figures, interleave, medians, ratios, timed } from "./measure.js";

/** W1, W1a. */
export async function singleInserts(ground: Ground, driver: Driver): Promise<Figures[]> {
  const database = await ground.database("single_inserts");
  const { sql } = database;
  await fill(database, { events: 70_000, days: 30 });
  await copyToPeer(database);
  const perEvent = async (scripts: Script[]) => {
    const rate = await driver({
      url: database.url,
      clients: 1,
      scripts,
      numbers: numbers(),
      extent: { transactions: 6000 },
      settings: { synchronous_commit: "off" },
    });
    return 1e6 / rate;
  };
  const tracked = async (mode: "inline" | "append") => {
    await sql`select rollup.set_write_mode(1, ${mode})`;
    const taken = await perEvent(inserts("public"));
    await sql`select rollup.fold()`;
    return taken;
  };
  await settle(database);
  const figures = await interleave(
    {
      none: () => perEvent(inserts("peer")),
      "app upsert": () => perEvent(insertsAndUpserts()),
      "prepared upsert": () => perEvent(insertsAndUpserts({ prepared: true })),
      inline: () => tracked("inline"),
      append: () => tracked("append"),
    },
    { rounds: 11, before: () => tidy(database) },
  );
  const { failed, notes = [] } = await exactness(database);
  await database.drop();
  const overhead =
    (ours: "inline" | "append", theirs = "app upsert") =>
    (round: Record<string, number>) =>
      ((round[ours] ?? 0) - (round.none ?? 0)) / ((round[theirs] ?? 0) - (round.none ?? 0));
  return (["inline", "append"] as const).map((mode) => ({
    id: mode === "inline" ? "W1" : "W1a",
    unit: "µs",
    variants: figures,
    ratios: ratios(figures, overhead(mode)),
    // A ratio of differences suffers from every disturbance: the medians suffer least.
    ratio: overhead(mode)(medians(figures)),
    ...(failed && { failed }),
    notes: [
      `to a prepared upsert: ${overhead(mode, "prepared upsert")(medians(figures)).toFixed(2)}`,
      ...notes,
    ],
  }));
}

/** W3. */
export async function bulkInsert(ground: Ground): Promise<Figures[]> {
  const database = await ground.database("bulk_insert");
  const { sql } = database;
  await fill(database, { events: 70_000, days: 30 });
  await copyToPeer(database);
  await sql`create table peer.staged as select * from peer.events(1, 100000, 30)`;
  const insert = (schema: "public" | "peer") => async () => {
    // Conversations that nobody has seen before.
    await sql`update peer.staged set conversation_id = conversation_id + 100000`;
    await settle(database);
    return timed(
      () => sql`
        insert into ${sql(schema)}.reporting_events (${eventColumns(sql)})
        select * from peer.staged`,
    );
  };
  const figures = await interleave({ none: insert("peer"), ours: insert("public") }, { rounds: 7 });
  const exact = await exactness(database);
  await database.drop();
  return [
    {
      id: "W3",
      unit: "ms",
      variants: figures,
      ratios: ratios(figures, ({ none = 0, ours = 0 }) => ours / none),
      ...exact,
    },
  ];
}

/** W2: one account that everybody writes to. */
export async function hotAccount(ground: Ground, driver: Driver): Promise<Figures[]> {
  const database = await ground.database("hot_account");
  await fill(database, { events: 70_000, days: 30 });
  await copyToPeer(database);
  const load = {
    url: database.url,
    clients: 8,
    numbers: numbers(),
    extent: { seconds: 4 },
  };
  const waits = new Map<string, number>();
  const figures = await interleave(
    {
      none: async () => {
        await settle(database);
        return driver({ ...load, scripts: inserts("peer") });
      },
      ours: async () => {
        await settle(database);
        return beside(database, waits, () => driver({ ...load, scripts: inserts("public") }));
      },
    },
    { rounds: 4 },
  );
  const { failed, notes = [] } = await exactness(database);
  await database.drop();
  const seen = [...waits].map(([wait, count]) => `${wait} ${count}`);
  return [
    {
      id: "W2",
      unit: "/s",
      variants: figures,
      ratios: ratios(figures, ({ none = 0, ours = 0 }) => ours / none),
      failed: failed || waits.size > 0,
      notes: [`lock waits: ${seen.join(", ") || "none"}`, ...notes],
    },
  ];
}

/** W4: many accounts, and whoever else writes is mostly at another. */
export async function manyAccounts(ground: Ground, driver: Driver): Promise<Figures[]> {
  const accounts = 200;
  const database = await ground.database("many_accounts");
  for (let account = 1; account <= accounts; account++) await switchOn(database, account);
  const load = {
    url: database.url,
    clients: 8,
    numbers: numbers({ accounts, conversations: 200_000 }),
    extent: { seconds: 4 },
  };
  const waits = new Map<string, number>();
  const figures = await interleave(
    {
      "app upsert": async () => {
        await settle(database);
        return driver({ ...load, scripts: insertsAndUpserts() });
      },
      ours: async () => {
        await settle(database);
        return beside(database, waits, () => driver({ ...load, scripts: inserts("public") }));
      },
    },
    { rounds: 5 },
  );
  const exact = await exactness(database, accounts);
  await database.drop();
  return [
    {
      id: "W4",
      unit: "/s",
      variants: figures,
      ratios: ratios(figures, ({ "app upsert": app = 0, ours = 0 }) => ours / app),
      ...exact,
    },
  ];
}

/** Does the worker's folding beside a load, and counts who is seen waiting for a lock that we brought. */
async function beside<T>(
  database: Database,
  waits: Map<string, number>,
  work: () => Promise<T>,
): Promise<T> {
  let over = false;
  const folder = connectTo(database);
  const observer = connectTo(database);
  const folding = (async () => {
    while (!over) {
      await sleep(1000);
      await folder`select rollup.fold()`;
    }
    await folder`select rollup.fold()`;
  })();
  const observing = (async () => {
    while (!over) {
      const found = await observer<{ wait: string }[]>`
        select concat_ws(' ', l.locktype, l.mode, c.relname) as wait
        from pg_locks as l
        left join pg_class as c on c.oid = l.relation
        where not l.granted
          and (l.locktype in ('advisory', 'transactionid', 'tuple', 'virtualxid') or c.relnamespace = 'rollup'::regnamespace)`;
      for (const { wait } of found) waits.set(wait, (waits.get(wait) ?? 0) + 1);
      await sleep(10);
    }
  })();
  try {
    return await work();
  } finally {
    over = true;
    await Promise.all([folding, observing]);
    await Promise.all([folder.end(), observer.end()]);
  }
}
