/** W: what the host pays when it writes events. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Driver, Script } from "./driver.js";
import { inserts, insertsAndUpserts, numbers } from "./events.js";
import {
  connectTo,
  copyToPeers,
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

/** W1, W1p, W1a. */
export async function singleInserts(ground: Ground, driver: Driver): Promise<Figures[]> {
  const database = await ground.database("single_inserts");
  const { sql } = database;
  await fill(database, { events: 70_000, days: 30 });
  await copyToPeers(database);
  const perEvent = async (scripts: Script[]) => {
    const rate = await driver({
      url: database.url,
      clients: 1,
      scripts,
      numbers: numbers(),
      extent: { transactions: 5000 },
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
      floor: () => perEvent(inserts("floor")),
      "app upsert": () => perEvent(insertsAndUpserts()),
      "prepared upsert": () => perEvent(insertsAndUpserts({ prepared: true })),
      inline: () => tracked("inline"),
      append: () => tracked("append"),
    },
    { rounds: 9, before: () => tidy(database) },
  );
  const { failed, notes = [] } = await exactness(database);
  await database.drop();
  const compared: [id: string, ours: string, theirs: string][] = [
    ["W1", "inline", "app upsert"],
    ["W1p", "inline", "prepared upsert"],
    ["W1a", "append", "app upsert"],
  ];
  return compared.map(([id, ours, theirs]) => {
    const overhead = (variant: string) => (round: Record<string, number>) =>
      ((round[variant] ?? 0) - (round.none ?? 0)) / ((round[theirs] ?? 0) - (round.none ?? 0));
    const { none = [], [ours]: own = [], [theirs]: peer = [], floor = [] } = figures;
    return {
      id,
      unit: "µs",
      variants: { none, floor, [theirs]: peer, [ours]: own },
      ratios: ratios(figures, overhead(ours)),
      // A ratio of differences suffers from every disturbance: the medians suffer least.
      ratio: overhead(ours)(medians(figures)),
      ...(failed && { failed }),
      notes: [
        `floor, a trigger of one empty statement: ${overhead("floor")(medians(figures)).toFixed(2)}`,
        ...notes,
      ],
    };
  });
}

/** W3. */
export async function bulkInsert(ground: Ground): Promise<Figures[]> {
  const database = await ground.database("bulk_insert");
  const { sql } = database;
  await fill(database, { events: 70_000, days: 30 });
  await copyToPeers(database);
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
  const figures = await interleave({ none: insert("peer"), ours: insert("public") }, { rounds: 5 });
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
  await copyToPeers(database);
  const load = {
    url: database.url,
    clients: 8,
    numbers: numbers(),
    extent: { seconds: 3 },
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
    extent: { seconds: 3 },
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

/** W6: many rows changed in a column that does not count. */
export async function idleUpdate(ground: Ground): Promise<Figures[]> {
  const database = await ground.database("idle_update");
  const { sql } = database;
  await fill(database, { events: 300_000, days: 365 });
  await copyToPeers(database);
  const update = (schema: "public" | "peer") => async () => {
    await settle(database);
    return timed(
      () => sql`
        update ${sql(schema)}.reporting_events
        set updated_at = now() at time zone 'UTC' where account_id = 1`,
    );
  };
  const figures = await interleave(
    { none: update("peer"), ours: update("public") },
    { rounds: 3, warmUp: 0 },
  );
  const exact = await exactness(database);
  await database.drop();
  return [
    {
      id: "W6",
      unit: "ms",
      variants: figures,
      ratios: ratios(figures, ({ none = 0, ours = 0 }) => ours / none),
      ...exact,
    },
  ];
}

/** W7: the host deletes a user, whose events go one by one in a transaction. */
export async function manyDeletes(ground: Ground): Promise<Figures[]> {
  const accounts = Array.from({ length: 50 }, (_, index) => index + 1);
  const database = await ground.database("many_deletes");
  const { sql } = database;
  await fill(database, { accounts, events: 2500, days: 30 });
  await copyToPeers(database);
  const user: Record<string, number> = { public: 0, peer: 0 };
  const remove = (schema: "public" | "peer") => async () => {
    user[schema] = (user[schema] ?? 0) + 1;
    const rows = await sql<{ id: string }[]>`
      select id from ${sql(schema)}.reporting_events where user_id = ${user[schema]} order by id limit 5000`;
    if (rows.length < 5000) throw new Error(`user ${user[schema]} has ${rows.length} events only`);
    const client = connectTo(database);
    const statement = `delete from ${schema}.reporting_events where id = $1`;
    const taken = await timed(() =>
      client.begin(async (transaction) => {
        for (const { id } of rows) await transaction.unsafe(statement, [id], { prepare: true });
      }),
    );
    await client.end();
    await sql`select rollup.fold()`;
    return taken;
  };
  const figures = await interleave(
    { none: remove("peer"), ours: remove("public") },
    { rounds: 5, before: () => tidy(database) },
  );
  const exact = await exactness(database, accounts.length);
  await database.drop();
  return [
    {
      id: "W7",
      unit: "ms",
      variants: figures,
      ratios: ratios(figures, ({ none = 0, ours = 0 }) => ours / none),
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
