/** On a coordinator and two workers: what holds on one server holds there. In the order in which an operator goes. */
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { migrate } from "../../src/database/migrate.js";
import { uninstall } from "../../src/database/uninstall.js";
import { startWorker, type Worker } from "../../src/worker/worker.js";
import { Random } from "../stress/random.js";
import type { Sql } from "../support/client.js";
import {
  accounts,
  backfillAll,
  type Cluster,
  createCluster,
  distributeHostTable,
  installOnOne,
  look,
  lookAtAll,
  moveShard,
  place,
  replaceNode,
  zones,
} from "./cluster.js";

const seconds = Number(process.env.CITUS_SECONDS ?? 60);
let cluster: Cluster;

/** Statements that write into all accounts. */
const writes = (start: number) => [
  `insert into public.reporting_events (id, name, value, account_id, user_id, inbox_id, conversation_id, created_at, updated_at)
   values (${start}, 'first_response', 5, 1, 1, 1, 1, '2026-02-01 10:00', now())`,
  `insert into public.reporting_events (id, name, value, value_in_business_hours, account_id, user_id, inbox_id, conversation_id, created_at, updated_at)
   select ${start} + i, (array['conversation_resolved', 'first_response', 'conversation_bot_handoff'])[1 + i % 3], i, i / 2.0, 1 + i % 20, i % 3,
     i % 2, i % 11, timestamp '2026-02-01' + i * interval '37 min', now() from generate_series(1, 200) as i`,
  // Pushed down to the shards, by way of the coordinator, and one that leaves out what is there.
  `insert into public.reporting_events (id, name, value, account_id, user_id, conversation_id, created_at, updated_at)
   select id + 1000, name, value, account_id, user_id, conversation_id, created_at, now() from public.reporting_events where id between ${start} and ${start + 50}`,
  `insert into public.reporting_events (id, name, value, account_id, user_id, conversation_id, created_at, updated_at)
   select e.id + 2000, e.name, e.value, 1 + e.id % 20, e.user_id, e.conversation_id, e.created_at, now()
   from public.reporting_events as e where e.id between ${start} and ${start + 50}`,
  `insert into public.reporting_events (id, name, value, account_id, conversation_id, created_at, updated_at)
   select id, name, value, account_id, 99, created_at, now() from public.reporting_events where id between ${start} and ${start + 9} on conflict do nothing`,
  `insert into public.reporting_events (id, name, value, account_id, conversation_id, created_at, updated_at)
   values (${start}, 'reply_time', 1, 1, 1, '2026-02-01 10:00', now()), (${start + 1}, 'reply_time', 2, 2, 1, '2026-02-02 10:00', now())
   on conflict (account_id, id) do update set value = excluded.value, name = excluded.name`,
  `update public.reporting_events set value = value * 2, user_id = 5 where id % 7 = 3 and id > ${start}`,
  `update public.reporting_events set created_at = created_at + interval '1 day' where account_id in (1, 2, 3) and id % 5 = 1`,
  `update public.reporting_events set updated_at = now()`,
  `delete from public.reporting_events where id % 13 = 1 and id > ${start}`,
  `with gone as (delete from public.reporting_events where account_id = 4 and id % 3 = 0 returning *) select count(*) from gone`,
  `insert into public.reporting_events (id, name, account_id, created_at, updated_at)
   select ${start} + 5000 + i, 'conversation_resolved', i, timestamp 'infinity', now() from generate_series(5, 8) as i`,
];

async function writeEverything(sql: Sql, start: number): Promise<void> {
  for (const statement of writes(start)) await sql.unsafe(statement);
  await sql.begin(async (own) => {
    await own`savepoint first`;
    await own`delete from public.reporting_events where account_id in (3, 4, 5, 6)`;
    await own`rollback to first`;
    await own`update public.reporting_events set inbox_id = 7 where account_id in (5, 6) and id % 3 = 0`;
    await own`savepoint second`;
    await own`insert into public.reporting_events (id, name, account_id, conversation_id, created_at, updated_at)
      values (${start + 9000}, 'conversation_resolved', 9, 1, '2026-02-03', now())`;
    await own`release second`;
  });
  await sql
    .begin(async (own) => {
      await own`delete from public.reporting_events where account_id between 7 and 12`;
      throw new Error("rolled back");
    })
    .catch((error) => assert.is(error.message, "rolled back"));
  const copy = await sql`
    copy public.reporting_events (id, name, value, account_id, user_id, conversation_id, created_at, updated_at) from stdin`.writable();
  for (let i = 0; i < 200; i++) {
    copy.write(
      `${start + 20000 + i}\treply_time\t${i}\t${1 + (i % 20)}\t2\t${i % 9}\t2026-02-0${1 + (i % 8)} 10:00\t2026-02-01\n`,
    );
  }
  await new Promise((done, failed) => copy.on("finish", done).on("error", failed).end());
}

async function assertExact(): Promise<void> {
  const { problems, clean } = await lookAtAll(cluster);
  assert.equal(problems, []);
  assert.is(clean, accounts.length, "an account had nothing to compare");
}

/** What a call fails with. */
async function failure(work: PromiseLike<unknown>): Promise<{ code?: string; message?: string }> {
  return work.then(
    () => ({}),
    (error) => error,
  );
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 120_000; !(await condition()); await sleep(250)) {
    assert.ok(Date.now() < deadline, `waited for ${what} for two minutes`);
  }
}

async function withWorkers(work: () => Promise<void>): Promise<void> {
  const workers: Worker[] = [];
  try {
    for (const { url } of cluster.nodes) workers.push(await startWorker(url, { log: () => {} }));
    await work();
  } finally {
    await Promise.all(workers.map((worker) => worker.stop()));
  }
}

const cleanAccounts = async () => {
  const clean = accounts.map(async (account) => {
    const { sql } = await place(cluster, account);
    const [row] = await sql<{ clean: boolean }[]>`
      select rollup.clean_days(${account}) <> '{}' as clean`;
    return row?.clean;
  });
  return (await Promise.all(clean)).filter(Boolean).length;
};

/** The daily numbers of resolved conversations, by the reads of that session. */
const series = async (sql: Sql, account: number) =>
  (
    await sql<{ count: string }[]>`
      select t.count from rollup.timeseries(${account}, 'resolutions_count', '2026-01-01', '2026-03-01') as t`
  ).map(({ count }) => count);

test.before(async () => {
  cluster = await createCluster();
});

test.after(async () => {
  await Promise.all(cluster.nodes.map(({ sql }) => sql.end()));
});

test("an installation of one server, distributed: raw reads at once, exact again when the workers have rebuilt", async () => {
  const { coordinator } = cluster;
  await installOnOne(cluster);
  for (const account of accounts) {
    await coordinator`select rollup.set_reporting_timezone(${account}, ${zones[account % zones.length] as string})`;
    await coordinator`select rollup.set_reporting_events_rollup(${account}, true)`;
  }
  await coordinator.unsafe(writes(100_000)[1] as string);
  await backfillAll(cluster);
  const before = await Promise.all(accounts.map((account) => series(coordinator, account)));
  await distributeHostTable(cluster);
  const [plan] = await coordinator<{ sources: string }[]>`
    select string_agg(distinct p.source, ',') as sources from rollup.read_plan(1, '2026-01-01', '2026-03-01') as p`;
  assert.is(plan?.sources, "raw");
  assert.equal(await Promise.all(accounts.map((account) => series(coordinator, account))), before);
  await migrate(cluster.url);
  await migrate(cluster.url);
  assert.equal(await Promise.all(accounts.map((account) => series(coordinator, account))), before);
  await withWorkers(() =>
    until("all accounts", async () => (await cleanAccounts()) === accounts.length),
  );
  assert.equal(await Promise.all(accounts.map((account) => series(coordinator, account))), before);
  await assertExact();
});

test("every kind of write, from every node", async () => {
  let start = 1_000_000;
  for (const { sql } of cluster.nodes) {
    await writeEverything(sql, start);
    const { problems } = await lookAtAll(cluster);
    assert.equal(problems, []);
    // At the end of time nothing fails either.
    await sql`
      insert into public.reporting_events (id, name, account_id, created_at, updated_at)
      select ${start}::int - i, 'conversation_resolved', i, '294276-12-31 23:00', now() from generate_series(1, 20) as i`;
    await sql`delete from public.reporting_events where created_at > '9999-01-01'`;
    for (const node of cluster.nodes) await node.sql`select rollup.fold()`;
    await backfillAll(cluster);
    await assertExact();
    start += 1_000_000;
  }
});

test("calls from any node, in transactions and subqueries, go to the account", async () => {
  const { coordinator } = cluster;
  const account = 3;
  const { name, sql: node } = await place(cluster, account);
  const other = cluster.nodes.find((candidate) => candidate.name !== name)?.sql as Sql;
  const expected = await series(node, account);
  for (const sql of [coordinator, other]) assert.equal(await series(sql, account), expected);
  const lateral = await coordinator<{ count: string }[]>`
    select t.count
    from (values (${account}::int)) as a (id)
    cross join lateral rollup.timeseries(a.id, 'resolutions_count', '2026-01-01', '2026-03-01') as t`;
  assert.equal(
    lateral.map(({ count }) => count),
    expected,
  );
  await coordinator
    .begin(async (sql) => {
      await sql`insert into public.reporting_events (id, name, account_id, conversation_id, created_at, updated_at)
        values (99, 'conversation_resolved', ${account}, 1, '2026-02-05 12:00', now())`;
      const seen = (await series(sql as unknown as Sql, account)).map(Number);
      assert.is(
        seen.reduce((sum, count) => sum + count, 0),
        expected.map(Number).reduce((sum, count) => sum + count, 1),
      );
      // As on one server: in the transaction, and undone with it.
      const [rows] = await sql<{ backfill: string }[]>`select rollup.backfill(${account})`;
      assert.ok(Number(rows?.backfill) > 0);
      assert.equal([...(await sql`select * from rollup.verify(${account})`)], []);
      throw new Error("enough");
    })
    .catch((error) => assert.is(error.message, "enough"));
  assert.equal(
    [...(await coordinator`select * from (select * from rollup.verify(${account})) as v`)],
    [],
  );
  const inside = await failure(coordinator`select rollup.begin_rebuild('backfill', ${account})`);
  assert.is(inside.code, "RU011");
  assert.match(inside.message ?? "", name);
  assert.is((await failure(coordinator`select rollup.seal(3, '2026-01-31')`)).code, "RU013");
  assert.is((await failure(coordinator`select rollup.set_retention(3, 12)`)).code, "RU013");
  assert.is((await failure(node`select * from rollup.distribute()`)).code, "RU017");
  assert.is(
    (
      await failure(
        coordinator`select * from rollup.timeseries(null, 'resolutions_count', now(), now())`,
      )
    ).code,
    "RU009",
  );
});

test("settings are changed on the coordinator, and known on every node", async () => {
  const { coordinator, nodes } = cluster;
  const worker = nodes[1]?.sql as Sql;
  await coordinator`select rollup.set_reporting_timezone(5, 'Asia/Tokyo')`;
  await coordinator`select rollup.set_write_mode(6, 'append')`;
  const known = await Promise.all(
    nodes.map(
      ({ sql }) => sql<{ account_id: number; reporting_timezone: string; write_mode: string }[]>`
        select account_id, reporting_timezone, write_mode from rollup.account_settings where account_id in (5, 6) order by 1`,
    ),
  );
  for (const rows of known) {
    assert.is(rows[0]?.reporting_timezone, "Asia/Tokyo");
    assert.is(rows[1]?.write_mode, "append");
  }
  assert.is((await failure(worker`select rollup.set_reporting_timezone(5, 'UTC')`)).code, "RU011");
  const { clean } = await look(cluster, 5);
  assert.not(clean, "the zone is another, and no day was rebuilt");
  await withWorkers(() => until("account 5", async () => (await look(cluster, 5)).clean));
  await assertExact();
});

test("zones that the host keeps in a reference table are followed and written, and accounts without any are known", async () => {
  const { coordinator } = cluster;
  await coordinator`
    insert into public.accounts (id, name, settings, created_at, updated_at)
    select i, 'account', '{}', now(), now() from generate_series(6, 30) as i`;
  await coordinator`select create_reference_table('public.accounts')`;
  await coordinator`update public.accounts set settings = '{"reporting_timezone": "Asia/Seoul"}' where id = 6`;
  await coordinator`select rollup.follow_host_settings()`;
  await coordinator`select rollup.set_reporting_timezone(8, 'Europe/Paris')`;
  const [host] = await coordinator<{ zone: string }[]>`
    select settings ->> 'reporting_timezone' as zone from public.accounts where id = 8`;
  assert.is(host?.zone, "Europe/Paris");
  for (const { sql } of cluster.nodes) {
    const rows = await sql<{ zone: string }[]>`
      select reporting_timezone as zone from rollup.account_settings where account_id in (6, 8) order by account_id`;
    assert.equal(
      rows.map(({ zone }) => zone),
      ["Asia/Seoul", "Europe/Paris"],
    );
  }
  await coordinator`
    insert into public.reporting_events (id, name, account_id, conversation_id, created_at, updated_at)
    values (31, 'conversation_resolved', 31, 1, '2026-02-05 12:00', now())`;
  for (const { sql } of cluster.nodes) {
    assert.is((await series(sql, 31)).filter((count) => count === "1").length, 1);
    assert.is((await failure(series(sql, 32))).code, "RU007");
  }
  await backfillAll(cluster);
  await assertExact();
});

test("truncate: no day of the shards is trusted", async () => {
  const { coordinator } = cluster;
  const kept = await coordinator`select * from public.reporting_events`;
  await coordinator`truncate public.reporting_events`;
  assert.is(await cleanAccounts(), 0);
  assert.equal(new Set(await series(coordinator, 3)), new Set(["0"]));
  await coordinator.unsafe(writes(50_000_000)[1] as string);
  assert.is(await cleanAccounts(), 0);
  await withWorkers(() =>
    until("all accounts", async () => (await cleanAccounts()) === accounts.length),
  );
  await assertExact();
  assert.ok(kept.length > 0);
});

test("a shard that moved away, and back to where its old rows are, is not trusted", async () => {
  const account = 7;
  const before = await place(cluster, account);
  await moveShard(cluster, before.shard);
  assert.is.not((await place(cluster, account)).name, before.name);
  assert.not((await look(cluster, account)).clean);
  await cluster.coordinator`
    insert into public.reporting_events (id, name, account_id, conversation_id, created_at, updated_at)
    values (77, 'conversation_resolved', ${account}, 1, '2026-02-05 12:00', now())`;
  await moveShard(cluster, before.shard, "force_logical");
  assert.is((await place(cluster, account)).name, before.name);
  assert.not((await look(cluster, account)).clean);
  await backfillAll(cluster);
  await assertExact();
});

test("a node that is new: nothing of the host fails, and all is exact after migrate", async () => {
  await replaceNode(cluster, 2);
  const { shard } = await place(cluster, 1);
  await cluster.coordinator`select replicate_reference_tables('block_writes')`;
  await moveShard(cluster, shard);
  const [, , added] = cluster.nodes;
  assert.is((await place(cluster, 1)).name, added?.name);
  let start = 100_000_000;
  for (const { sql } of cluster.nodes) {
    await writeEverything(sql, start);
    start += 1_000_000;
  }
  await cluster.coordinator`delete from public.reporting_events where created_at > '9999-01-01'`;
  await migrate(cluster.url);
  const { problems } = await lookAtAll(cluster);
  assert.equal(problems, []);
  await withWorkers(() =>
    until("all accounts", async () => (await cleanAccounts()) === accounts.length),
  );
  await assertExact();
});

test(`writers, rebuilds, folds, zone changes and shard moves for ${seconds} s`, async () => {
  const random = new Random(Number(process.env.CITUS_SEED ?? 1));
  const deadline = Date.now() + seconds * 1000;
  const failed: string[] = [];
  const counts = { statements: 0, looks: 0, clean: 0, backfills: 0, zones: 0, moves: 0 };
  const loop = async (work: (random: Random) => Promise<unknown>, own: Random) => {
    while (Date.now() < deadline) await work(own);
  };
  let id = 200_000_000;
  const write = async (random: Random) => {
    const { sql } = random.pick(cluster.nodes);
    const account = random.pick(accounts);
    const other = random.pick(accounts);
    const row = (account: number) =>
      `(${++id}, '${random.pick(["conversation_resolved", "conversation_bot_handoff", "reply_time"])}', ${random.int(100)}, ${account}, ${random.int(4)},
        ${random.int(30)}, timestamp '2026-02-01' + ${random.int(40_000)} * interval '1 min', now())`;
    const columns =
      "(id, name, value, account_id, user_id, conversation_id, created_at, updated_at)";
    const statement = random.pick([
      ...Array(6).fill(`insert into public.reporting_events ${columns} values ${row(account)}`),
      `insert into public.reporting_events ${columns} values ${row(account)}, ${row(other)}, ${row(account)}`,
      `update public.reporting_events set value = value + 1 where account_id = ${account} and id % 50 = ${random.int(50)}`,
      `delete from public.reporting_events where account_id in (${account}, ${other}) and id % 97 = ${random.int(97)}`,
    ]);
    try {
      await sql.begin(async (own) => {
        await own.unsafe("set local deadlock_timeout = '10s'");
        await own.unsafe(statement);
        if (random.int(3) === 0)
          await own.unsafe(`insert into public.reporting_events ${columns} values ${row(other)}`);
      });
      counts.statements++;
    } catch (error) {
      const { message, code } = error as { message: string; code: string };
      failed.push(`${code} ${message}: ${statement}`.slice(0, 200));
    }
  };
  const administer = async (random: Random) => {
    const account = random.pick(accounts);
    const way = random.int(10);
    const { sql } = await place(cluster, account);
    if (way === 0) {
      const done = await failure(
        cluster.coordinator`select rollup.set_reporting_timezone(${account}, ${random.pick(zones)})`,
      );
      if (done.code === undefined) counts.zones++;
    } else if (way < 6) {
      const done = await failure(cluster.coordinator`select rollup.backfill(${account})`);
      if (done.code === undefined) counts.backfills++;
    } else {
      await failure(sql`select rollup.fold()`);
    }
  };
  const check = async (random: Random) => {
    const account = random.pick(accounts);
    // The shard may move between asking where it is and looking.
    const seen = await look(cluster, account).catch((error) => {
      if (error.code === "42P01") return { found: [], clean: false };
      throw error;
    });
    counts.looks++;
    if (seen.clean) counts.clean++;
    failed.push(...seen.found.map((difference) => `${account}: ${JSON.stringify(difference)}`));
  };
  const move = async (random: Random) => {
    if (counts.moves >= 8) return sleep(500);
    const { shard } = await place(cluster, random.pick(accounts));
    const done = await failure(moveShard(cluster, shard, "force_logical"));
    if (done.code === undefined) counts.moves++;
    await sleep((seconds * 1000) / 20);
  };
  await Promise.all([
    ...Array.from({ length: 6 }, () => loop(write, random.fork())),
    ...Array.from({ length: 2 }, () => loop(administer, random.fork())),
    ...Array.from({ length: 2 }, () => loop(check, random.fork())),
    loop(move, random.fork()),
  ]);
  console.log(counts);
  assert.equal(failed.slice(0, 10), []);
  assert.ok(counts.clean > 0 && counts.moves > 0 && counts.backfills > 0);
  const { problems } = await lookAtAll(cluster);
  assert.equal(problems, []);
  await backfillAll(cluster);
  await assertExact();
});

test("uninstall leaves nothing of ours on any node, and migrate installs again", async () => {
  await uninstall(cluster.url);
  for (const { sql } of cluster.nodes) {
    const left = await sql`
      select tgname::text as name from pg_trigger where tgname like 'reporting_events_rollup%'
      union all
      select nspname::text from pg_namespace where nspname ~ 'rollup|graphile'
      union all
      select identity from pg_dist_object as o cross join lateral pg_identify_object(o.classid, o.objid, 0) where o.classid <> 'pg_authid'::regclass and identity like 'rollup%'`;
    assert.equal([...left], []);
  }
  await migrate(cluster.url);
  await cluster.coordinator`select rollup.set_reporting_timezone(1, 'UTC')`;
  await cluster.coordinator`select rollup.backfill(1)`;
  const { found, clean } = await look(cluster, 1);
  assert.equal(found, []);
  assert.ok(clean);
});

test.run();
