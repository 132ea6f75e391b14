/** Whatever happens inside our trigger, the host's statement succeeds, and the days concerned are known to be dirty. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { event, withSessions } from "../concurrency/support.js";
import type { Sql } from "../support/client.js";
import {
  connect,
  createDatabase,
  database,
  databaseUrl,
  onServer,
  otherDatabase,
  postgresMajor,
} from "../support/database.js";
import {
  accountIn,
  assertExact,
  assertExactEverywhere,
  assertTotalsExactEverywhere,
  cleanDays,
  handoff,
  insert,
  listening,
  newAccount,
  operations,
  pending,
  rollups,
  sqlstate,
  stored,
} from "./support.js";

const sql = database();
async function breakTable(table: string, account: number): Promise<() => Promise<void>> {
  await sql.unsafe(`
    create or replace function public.refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
    create trigger refuse_${account} before insert or update or delete on rollup.${table}
      for each row execute function public.refuse()`);
  return async () => {
    await sql.unsafe(`drop trigger refuse_${account} on rollup.${table}`);
  };
}

for (const table of ["deltas", "reporting_events_rollups", "ledger", "previous_dates"]) {
  for (const [what, operate] of Object.entries(operations)) {
    test(`${what} while rollup.${table} refuses rows`, async () => {
      const account = await accountIn("UTC");
      await insert(sql, account, handoff, {
        ...handoff,
        name: "conversation_resolved",
        created_at: "2026-02-12 12:00:00",
      });
      if (table === "deltas") await sql`select rollup.set_write_mode(${account}, 'append')`;
      const { client, warnings } = listening();
      const mend = await breakTable(table, account);
      try {
        await operate(client, account);
      } finally {
        await mend();
        await client.end();
      }
      assert.match(warnings.join("\n"), "refused");
      assert.not.match(await cleanDays(account), /^\{\(,\)\}$/);
      await assertExact(account);
      await sql`select rollup.repair(${account})`;
      await assertExactEverywhere(account);
    });
  }
}

test("not even a dirty mark can be written: the host's statement succeeds, with a warning", async () => {
  const account = await accountIn("UTC");
  const { client, warnings } = listening();
  const mends = [
    await breakTable("reporting_events_rollups", account),
    await breakTable("dirty_marks", account),
  ];
  try {
    await insert(client, account, {});
    await insert(client, account, {}, {});
  } finally {
    for (const mend of mends) await mend();
    await client.end();
  }
  assert.match(warnings.join("\n"), "not even marked");
  const [count] =
    await sql`select count(*)::int as count from public.reporting_events where account_id = ${account}`;
  assert.is(count?.count, 3);
});

test("truncate while dirty marks cannot be written", async () => {
  const other = await createDatabase();
  const { client, warnings } = listening({ url: other.url });
  try {
    await client`select rollup.set_reporting_timezone(1, 'UTC')`;
    await client.unsafe(`
      create function public.refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
      create trigger refuse before insert on rollup.dirty_marks for each row execute function public.refuse()`);
    await client`truncate public.reporting_events`;
    assert.match(warnings.join("\n"), "refused");
  } finally {
    await client.end();
    await other.drop();
  }
});

test("each function that the trigger calls, broken (rule: all code inside the exception block)", async () => {
  const other = await createDatabase();
  const { client, warnings } = listening({ url: other.url });
  try {
    await client`select rollup.set_reporting_timezone(1, 'UTC')`;
    const functions = await client<{ name: string; definition: string }[]>`
      select p.proname as name,
        format('create or replace function rollup.%I(%s) returns %s language plpgsql as $$ begin raise %L; end $$', p.proname,
          pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), p.proname || ' is broken') as definition
      from pg_proc as p
      where p.pronamespace = 'rollup'::regnamespace and p.prokind = 'f' and p.prorettype not in ('trigger'::regtype)`;
    const blamed = new Set<string>();
    for (const { name, definition } of functions) {
      await client.unsafe("begin");
      await client.unsafe(definition);
      warnings.length = 0;
      await insert(client, 1, handoff);
      await insert(client, 1, handoff, { ...handoff, conversation_id: 2 });
      await client`update public.reporting_events set conversation_id = 3`;
      await client`delete from public.reporting_events where conversation_id = 3`;
      if (warnings.length > 0) blamed.add(name);
      await client.unsafe("rollback");
    }
    for (const name of [
      "event_names",
      "local_date",
      "microseconds",
      "writer_settings",
      "try_lock_account",
      "apply",
    ]) {
      assert.ok(blamed.has(name), `${name} did not matter`);
    }
  } finally {
    await client.end();
    await other.drop();
  }
});

test("a zone that is valid no longer: an account-wide mark, and exact once it is (rule: a mark without date)", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, handoff);
  const { client, warnings } = listening();
  await sql`update rollup.account_settings set reporting_timezone = 'Mars/Olympus' where account_id = ${account}`;
  for (const operate of Object.values(operations)) await operate(client, account);
  await client.end();
  assert.match(warnings.join("\n"), "Mars/Olympus");
  assert.is(await cleanDays(account), "{}");
  await sql`update rollup.account_settings set reporting_timezone = 'UTC' where account_id = ${account}`;
  assert.is(await cleanDays(account), "{}");
  await insert(sql, account, handoff, {});
  await sql`select rollup.repair(${account})`;
  await assertExactEverywhere(account);
});

const extremes: [string, string][] = [
  ["infinity", "infinity"],
  ["-infinity", "-infinity"],
  ["294276-12-31 23:59:59.999999", "294276-12-31"],
  ["4714-11-24 00:00:00 BC", "4714-11-24 BC"],
  ["4713-01-01 12:00:00 BC", "4713-01-01 BC"],
];

for (const [created_at, date] of extremes) {
  for (const zone of ["Pacific/Kiritimati", "Pacific/Pago_Pago"]) {
    test(`created_at ${created_at} in ${zone}`, async () => {
      const account = await accountIn(zone);
      const { client, warnings } = listening();
      await insert(client, account, { ...handoff, created_at });
      await insert(client, account, { ...handoff, created_at }, { created_at }, handoff);
      await client.end();
      assert.equal(warnings, []);
      const line = `${date} account ${account} bot_handoffs_count 1 0 0`;
      assert.ok((await rollups(account)).includes(line), (await rollups(account)).join("\n"));
      await sql`select rollup.backfill(${account})`;
      assert.ok((await rollups(account)).includes(line));
      assert.equal([...(await sql`select * from rollup.verify(${account})`)], []);
      await sql`update public.reporting_events set user_id = 8 where account_id = ${account}`;
      assert.equal([...(await sql`select * from rollup.verify(${account})`)], []);
      await sql`delete from public.reporting_events where account_id = ${account}`;
      assert.equal(await rollups(account), []);
      await assertExactEverywhere(account);
    });
  }
}

test("two writers fail on the same day: neither waits for the other, nor queues a repair (rule: marks without a key)", async () => {
  const account = await accountIn("UTC");
  const runs = () => sql`select id, state from rollup.backfill_runs where account_id = ${account}`;
  const before = [...(await runs())];
  const mend = await breakTable("reporting_events_rollups", account);
  try {
    await withSessions(["read committed", "read committed"], async (a, b) => {
      await a.run(event(account));
      await b.run(event(account));
      await b.run("commit");
      await a.run("commit");
    });
  } finally {
    await mend();
  }
  const marks = await sql`select date from rollup.dirty_marks where account_id = ${account}`;
  assert.equal(
    marks.map(({ date }) => date),
    ["2026-02-11", "2026-02-11"],
  );
  assert.equal([...(await runs())], before);
  await sql`select rollup.repair(${account})`;
  await assertExactEverywhere(account);
});

test("extreme dates while the rollups refuse them are repaired (rule: the date itself may be what failed)", async () => {
  const account = await accountIn("UTC");
  const mend = await breakTable("reporting_events_rollups", account);
  for (const [created_at] of extremes) await insert(sql, account, { ...handoff, created_at });
  await mend();
  await sql`select rollup.repair(${account})`;
  assert.is(await cleanDays(account), "{(,)}");
  assert.equal([...(await sql`select * from rollup.verify(${account})`)], []);
  assert.is((await rollups(account)).length, 2 * extremes.length);
});

test("a statement of very many events is appended like any other", async () => {
  const account = await accountIn("UTC");
  const { client, warnings } = listening();
  const write = (name: string, on: number) => client`
    insert into public.reporting_events (name, value, account_id, user_id, conversation_id, created_at)
    select ${name}, 1, ${on}::int, 7, i % 1000, timestamp '2026-02-11' + (i % 3) * interval '1 day'
    from generate_series(1, 50001) as i`;
  await write("something_else", account);
  await write("reply_time", newAccount());
  await write("conversation_bot_handoff", account);
  await client.end();
  assert.equal(warnings, []);
  assert.is(await pending(account), 3000);
  assert.ok((await rollups(account)).includes("2026-02-13 agent 7 bot_handoffs_count 1000 0 0"));
  await assertTotalsExactEverywhere(account);
});

test("a statement of many events in a transaction that has used its guards marks their days", async () => {
  const account = await accountIn("UTC");
  const { client, warnings } = listening();
  const write = (rows: number) => client`
    insert into public.reporting_events (name, value, account_id, user_id, conversation_id, created_at)
    select 'conversation_bot_handoff', 1, ${account}::int, 7, i % 1000, timestamp '2026-02-11' + (i % 3) * interval '1 day'
    from generate_series(1, ${rows}::int) as i`;
  await client`begin`;
  for (let n = 0; n < 39; n++) await insert(client, account, { created_at: "2026-03-01" });
  await write(10_001);
  assert.equal(warnings, []);
  await write(10_000);
  assert.equal(warnings, []);
  await write(10_001);
  assert.is(warnings.length, 1);
  assert.match(warnings[0] ?? "", "too many events for a transaction of so many statements");
  await client`commit`;
  await client.end();
  assert.is(await cleanDays(account), "{(,2026-02-11),[2026-02-14,)}");
  await sql`select rollup.repair(${account})`;
  assert.ok((await rollups(account)).includes("2026-02-13 agent 7 bot_handoffs_count 1000 0 0"));
  await assertTotalsExactEverywhere(account);
});

test("plpgsql told to make errors of many rows makes none of ours", async () => {
  const account = await accountIn("UTC");
  const { client, warnings } = listening();
  await client`set plpgsql.extra_errors = 'all'`;
  await insert(client, account, handoff, { ...handoff, conversation_id: 2 });
  await client`delete from public.reporting_events where account_id = ${account}`;
  assert.equal(warnings, []);
  await client.end();
  await assertExactEverywhere(account);
});

test("a statement of many events leaves deltas rather than let the host wait until they are applied", async () => {
  const account = await accountIn("UTC");
  const write = (rows: number) => sql`
    insert into public.reporting_events (name, value, account_id, user_id, conversation_id, created_at)
    select 'conversation_bot_handoff', 1, ${account}::int, 7, i % 100, '2026-02-11' from generate_series(1, ${rows}::int) as i`;
  await write(10_000);
  assert.is(await pending(account), 0);
  await write(10_001);
  assert.ok((await pending(account)) > 0);
  await assertExactEverywhere(account);
  await sql`select rollup.fold(${account})`;
  assert.is(await pending(account), 0);
  await assertExactEverywhere(account);
});

test("a role without any privilege on our schema, with a hostile search_path", async () => {
  const account = await accountIn("America/Havana");
  const name = `host_${account}`;
  const database_name = new URL(databaseUrl).pathname.slice(1);
  await onServer((server) => server.unsafe(`create role ${name} login password 'secret'`));
  await sql.unsafe(`
    grant select, insert, update, delete, truncate on public.reporting_events to ${name};
    grant usage on all sequences in schema public to ${name};
    grant temporary on database ${database_name} to ${name};
    create schema hostile;
    grant usage on schema hostile to ${name};
    create function hostile.timezone(text, timestamp) returns timestamptz language sql as 'select now()';
    create function hostile.round(float8) returns float8 language sql as 'select 7::float8';
    create function hostile.abs(float8) returns float8 language sql as 'select 7::float8';
    create function hostile.greatest_of(int, int) returns int language sql as 'select 7';
    create function hostile.never(text, text) returns boolean language sql as 'select false';
    create operator hostile.= (leftarg = text, rightarg = text, function = hostile.never);
    create table hostile.account_settings (account_id int);
    create table hostile.deltas (account_id int)`);
  const { client, warnings } = listening({
    url: otherDatabase(databaseUrl, database_name, { user: name, password: "secret" }),
  });
  try {
    assert.is(await sqlstate(client`select * from rollup.account_settings`), "42501");
    await client.unsafe(`
      set search_path = hostile, pg_catalog, public;
      create temporary table events (account_id int);
      create temporary table deltas (account_id int)`);
    for (const operate of Object.values(operations)) await operate(client, account);
    await insert(client, account, handoff, handoff, { value: 3.5 });
    await insert(client, account, { value: 2.25 });
    assert.equal(warnings, []);
    await assertExactEverywhere(account);
    await client`truncate public.reporting_events`;
    assert.equal(warnings, []);
    assert.is(await cleanDays(account), "{}");
  } finally {
    await client.end();
    await sql.unsafe("drop schema hostile cascade");
    const superuser = connect({ superuser: true });
    await superuser.unsafe(`drop owned by ${name}; drop role ${name}`);
    await superuser.end();
    await sql`select rollup.backfill(${account})`;
  }
});

test("a cancelled statement is the host's own", async () => {
  const account = await accountIn("UTC");
  await sql.unsafe(`
    create function public.dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(30); return new; end $$;
    create trigger dawdle before insert on rollup.reporting_events_rollups for each row
      when (new.account_id = ${account}) execute function public.dawdle()`);
  const client = connect({ settings: { statement_timeout: "300ms" } });
  try {
    assert.is(await sqlstate(insert(client, account, {})), "57014");
  } finally {
    await client.end();
    await sql`drop trigger dawdle on rollup.reporting_events_rollups`;
  }
  await assertExactEverywhere(account);
});

test("lastval() is the host's (rule: no identity column)", async () => {
  const account = await accountIn("UTC");
  const client = connect();
  for (const mode of ["inline", "append"]) {
    await client`select rollup.set_write_mode(${account}, ${mode})`;
    const [row] = await client`
      insert into public.reporting_events (name, value, account_id) values ('reply_time', 1, ${account}) returning id`;
    const [last] = await client`select lastval() as id`;
    assert.is(last?.id, row?.id);
  }
  await client.end();
});

test("writers neither fold nor touch the settings, coverage or queue (rule: append-only writers)", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insert(sql, account, {});
  await sql`select rollup.set_write_mode(${account}, 'inline')`;
  const state = () => sql`
    select s.xmin::text, c.xmin::text as coverage, (select count(*) from rollup.backfill_runs) as runs
    from rollup.account_settings as s join rollup.account_coverage as c using (account_id) where account_id = ${account}`;
  const jobs = () => sql`select id, revision from rollup_worker.jobs order by id`;
  const before = [...(await state()), ...(await jobs())];
  for (const operate of Object.values(operations)) await operate(sql, account);
  assert.equal([...(await state()), ...(await jobs())], before);
  assert.is(await pending(account), 1);
});

/** How many subtransactions that have written and not been rolled back the present transaction has; before 16, of those whose rows are left. */
async function subtransactions(tx: Sql, account: number): Promise<number> {
  const [row] =
    postgresMajor >= 16
      ? await tx`
          select s.subxact_count as count from pg_stat_get_backend_idset() as b, pg_stat_get_backend_subxact(b) as s
          where pg_stat_get_backend_pid(b) = pg_backend_pid()`
      : await tx`
          select count(distinct w.xmin::text)::int as count
          from (
            select xmin from rollup.deltas where account_id = ${account}
            union all select xmin from rollup.dirty_marks where account_id = ${account}
            union all select xmin from rollup.ledger where account_id = ${account}
          ) as w`;
  return row?.count;
}

/** 200 inserts of one event in one transaction; returns its subtransactions. */
async function insertOneByOne(client: Sql, account: number): Promise<number> {
  let used = 0;
  await client.begin(async (tx) => {
    for (let n = 0; n < 200; n++) {
      await insert(tx as unknown as Sql, account, { ...handoff, conversation_id: n });
    }
    used = await subtransactions(tx as unknown as Sql, account);
  });
  return used;
}

for (const mode of ["inline", "append"]) {
  test(`many statements of one transaction use few subtransactions, ${mode} (rule: append without after some 40 firings)`, async () => {
    const account = await accountIn("UTC");
    await sql`select rollup.set_write_mode(${account}, ${mode})`;
    const { client, warnings } = listening();
    const used = await insertOneByOne(client, account);
    await client.end();
    assert.ok(used > 10 && used <= 45, `${used} subtransactions`);
    assert.equal(warnings, []);
    assert.ok((await pending(account)) >= 160);
    await assertTotalsExactEverywhere(account);
  });
}

for (const [what, tables] of [
  ["rollup.deltas refuses rows, and all that is left is to append", ["deltas"]],
  ["rollup.reporting_events_rollups refuses rows", ["reporting_events_rollups"]],
  ["rollup.ledger refuses rows", ["ledger"]],
  ["rollup.previous_dates refuses rows", ["previous_dates"]],
  ["every table of totals refuses rows", ["deltas", "reporting_events_rollups", "ledger"]],
] as const) {
  for (const mode of ["inline", "append"]) {
    test(`200 single inserts in one transaction while ${what}, ${mode}: one warning, few subtransactions (rule: errors count too)`, async () => {
      const account = await accountIn("UTC");
      await insert(sql, account, handoff);
      await sql`select rollup.set_write_mode(${account}, ${mode})`;
      const { client, warnings } = listening();
      const mends = [];
      for (const table of tables) mends.push(await breakTable(table, account));
      let used: number;
      try {
        used = await insertOneByOne(client, account);
      } finally {
        for (const mend of mends) await mend();
        await client.end();
      }
      const fails = mode === "inline" || tables.some((table) => table === "deltas");
      assert.ok(used <= 45, `${used} subtransactions`);
      assert.is(warnings.length, fails ? 1 : 0, warnings.join("\n"));
      assert.is(await cleanDays(account), fails ? "{}" : "{(,)}");
      await assertExact(account);
      await sql`select rollup.repair(${account})`;
      await assertTotalsExactEverywhere(account);
    });
  }
}

test("neither deltas nor marks can be written: the host goes on, is told each time, and verify finds it (rule)", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  const { client, warnings } = listening();
  const mends = [await breakTable("deltas", account), await breakTable("dirty_marks", account)];
  let used: number;
  try {
    used = await insertOneByOne(client, account);
  } finally {
    for (const mend of mends) await mend();
    await client.end();
  }
  assert.ok(used <= 45, `${used} subtransactions`);
  assert.is(warnings.filter((warning) => warning.includes("could not be added")).length, 1);
  assert.is(warnings.filter((warning) => warning.includes("not even marked")).length, 200);
  const found = await sql`select distinct structure, date from rollup.verify(${account})`;
  assert.equal(
    found.map((row) => ({ ...row })),
    [{ structure: "ledger", date: "2026-02-11" }],
  );
  await sql`select rollup.repair(${account})`;
  await assertTotalsExactEverywhere(account);
});

test("what failed in a savepoint that is rolled back is tried again; what failed before it is not", async () => {
  const account = await accountIn("UTC");
  const { client, warnings } = listening();
  const fail = async (tx: Sql) => {
    await tx`update rollup.account_settings set reporting_timezone = 'Mars/Olympus' where account_id = ${account}`;
    await insert(tx, account, handoff);
    await tx`update rollup.account_settings set reporting_timezone = 'UTC' where account_id = ${account}`;
  };
  await client.unsafe("begin");
  await client.unsafe("savepoint s");
  await fail(client);
  await client.unsafe("rollback to s");
  assert.is(warnings.length, 1);
  await insert(client, account, { ...handoff, conversation_id: 2 });
  assert.is((await stored(account, client)).length, 2);
  await client.unsafe("savepoint t");
  await client.unsafe("release t");
  await fail(client);
  assert.is(warnings.length, 2);
  await insert(client, account, { ...handoff, conversation_id: 3 });
  await insert(client, account, { ...handoff, conversation_id: 4 });
  assert.is(warnings.length, 2);
  assert.is(await cleanDays(account, client), "{}");
  const [marks] = await client`
    select count(*) filter (where date is null)::int as whole, count(*)::int as all from rollup.dirty_marks where account_id = ${account}`;
  assert.equal({ ...marks }, { whole: 1, all: 1 });
  await client.unsafe("commit");
  await sql`select rollup.repair(${account})`;
  // Another transaction of the session begins anew.
  await insert(client, account, { ...handoff, conversation_id: 5 });
  assert.is(warnings.length, 2);
  await client.end();
  await assertExactEverywhere(account);
});

test("transactions of one session do not use its locks up for good (rule: a transaction-local setting)", async () => {
  const account = await accountIn("UTC");
  const client = connect();
  for (let n = 0; n < 60; n++) await insert(client, account, {});
  await client.end();
  assert.is(await pending(account), 0);
});

test("vacuum leaves the emptied deltas their size, for to shrink a table locks out its writers (rule: vacuum_truncate off)", async () => {
  const account = await accountIn("UTC");
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insert(sql, account, ...Array.from({ length: 2000 }, (_, user_id) => ({ user_id })));
  assert.is(await pending(account), 2000);
  await sql`select rollup.fold()`;
  await sql`vacuum rollup.deltas`;
  const [size] = await sql`select pg_relation_size('rollup.deltas')::int as bytes`;
  assert.ok(size?.bytes > 0);
});

test.run();
