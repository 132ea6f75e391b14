/** The trigger: which rows an event becomes, whatever statement brings it. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect, createDatabase, database } from "../support/database.js";
import {
  accountIn,
  assertExactEverywhere,
  assertTotalsExactEverywhere,
  cleanDays,
  type Event,
  insert,
  newAccount,
  pending,
  rollups,
  stored,
} from "./support.js";

const sql = database();

test("a resolution with agent and inbox is six rows", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, {
    name: "conversation_resolved",
    value: 200,
    value_in_business_hours: 80,
    user_id: 7,
    inbox_id: 3,
    conversation_id: 1,
  });
  assert.equal(await stored(account), [
    `2026-02-11 account ${account} resolution_time 1 200 80`,
    `2026-02-11 account ${account} resolutions_count 1 0 0`,
    "2026-02-11 agent 7 resolution_time 1 200 80",
    "2026-02-11 agent 7 resolutions_count 1 0 0",
    "2026-02-11 inbox 3 resolution_time 1 200 80",
    "2026-02-11 inbox 3 resolutions_count 1 0 0",
  ]);
});

test("a resolution without agent is four rows", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, { name: "conversation_resolved", inbox_id: 3, conversation_id: 1 });
  assert.is((await stored(account)).length, 4);
});

test("two events on one day add up", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, { value: 0.1, value_in_business_hours: 0.25, user_id: 7 });
  await insert(sql, account, { value: 0.2, value_in_business_hours: 0.5, user_id: 7 });
  assert.equal(await stored(account), [
    `2026-02-11 account ${account} first_response 2 0.3 0.75`,
    "2026-02-11 agent 7 first_response 2 0.3 0.75",
  ]);
});

test("a name that is not in the registry, or none, is no row", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, { name: "conversation_opened" }, { name: null });
  await insert(sql, account, { name: "conversation_opened" });
  await insert(sql, account, { name: null });
  assert.equal(await rollups(account), []);
  assert.is(await pending(account), 0);
});

test("an account without a zone, and an event without an account, are no rows", async () => {
  const account = newAccount();
  await insert(sql, account, {});
  await insert(sql, account, {}, {});
  await insert(sql, account, { account_id: null });
  await insert(sql, account, { account_id: null }, { account_id: null });
  assert.equal(await rollups(account), []);
  assert.is(await pending(account), 0);
});

test("null, NaN, infinite and too large values count the event and add nothing", async () => {
  const account = await accountIn("UTC");
  const values = [null, Number.NaN, Infinity, -Infinity, 9.3e12, -1e300];
  for (const value of values) await insert(sql, account, { value, value_in_business_hours: 2 });
  for (const value of values)
    await insert(sql, account, { value: 3, value_in_business_hours: value });
  await insert(sql, account, ...values.map((value) => ({ value, value_in_business_hours: value })));
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 18 18 12`]);
  await assertExactEverywhere(account);
});

test("it is counted how many events have a value, and how many one in business hours", async () => {
  const counts = async (account: number, table: string) => {
    const [row] = await sql.unsafe(`
      select count::int, count_value::int as value, count_value_business_hours::int as business from rollup.${table}
      where account_id = ${account} and dimension_type = 'account' and metric = 'first_response'`);
    return [row?.count, row?.value, row?.business];
  };
  for (const mode of ["inline", "append"]) {
    const account = await accountIn("UTC");
    await sql`select rollup.set_write_mode(${account}, ${mode})`;
    const missing = [null, Number.NaN, Infinity, 9.3e12];
    await insert(sql, account, { value: 0 });
    for (const value of missing) await insert(sql, account, { value });
    await insert(sql, account, { value_in_business_hours: null }, { value: null }, {});
    // A resolution counts as one and has a duration besides.
    await insert(sql, account, { name: "conversation_resolved" });
    assert.equal(await counts(account, "daily_rollups"), [8, 3, 7]);
    await sql`update public.reporting_events set value = 5 where account_id = ${account} and value is null`;
    assert.equal(await counts(account, "daily_rollups"), [8, 5, 7]);
    await sql`update public.reporting_events set value_in_business_hours = 'NaN' where account_id = ${account} and value = 5`;
    assert.equal(await counts(account, "daily_rollups"), [8, 5, 5]);
    await sql`delete from public.reporting_events where account_id = ${account} and value = 0`;
    assert.equal(await counts(account, "daily_rollups"), [7, 4, 4]);
    await assertExactEverywhere(account);
    await sql`select rollup.fold(${account})`;
    assert.equal(await counts(account, "reporting_events_rollups"), [7, 4, 4]);
    const [resolutions] = await sql`
      select sum(count_value)::int as values from rollup.reporting_events_rollups
      where account_id = ${account} and metric = 'resolutions_count'`;
    assert.is(resolutions?.values, 0);
    await assertExactEverywhere(account);
  }
});

test("values are rounded to microseconds, large ones without loss", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, { value: 1.0000004, value_in_business_hours: 1.0000016 });
  await insert(sql, account, { value: 9007199254.740992, value_in_business_hours: -3.5 });
  assert.equal(await stored(account), [
    `2026-02-11 account ${account} first_response 2 9007199255.740992 -2.499998`,
  ]);
  await assertExactEverywhere(account);
});

test("a row without count stays while its sums are not 0 (rule: count, sums and counts of values)", async () => {
  const account = await accountIn("UTC");
  /** Day, count, sums, counts of values. */
  const apply = async (...deltas: [number, number, number, number, number, number][]) => {
    for (const [day, count, sum, businessSum, values, businessValues] of deltas)
      await sql`
        insert into rollup.deltas select ${account}, generation, make_date(2026, 2, ${day}::int), 'first_response', 7, null, null, ${count}::int,
          ${sum}::int, ${businessSum}::int, false, ${values}::int, ${businessValues}::int
        from rollup.account_settings where account_id = ${account}`;
    await sql`select rollup.fold(${account})`;
    const rows = await sql`
      select concat_ws(' ', extract(day from date), count, sum_value, sum_value_business_hours, count_value, count_value_business_hours) as line
      from rollup.reporting_events_rollups where account_id = ${account} and dimension_type = 'agent' order by date`;
    return rows.map(({ line }) => line);
  };
  assert.equal(
    await apply([11, 1, 5, 0, 1, 1], [12, 1, 0, 3, 1, 1], [13, 1, 0, 0, 1, 1], [14, 1, 0, 0, 1, 1]),
    ["11 1 5 0 1 1", "12 1 0 3 1 1", "13 1 0 0 1 1", "14 1 0 0 1 1"],
  );
  assert.equal(
    await apply(
      [11, -1, 0, 0, -1, -1],
      [12, -1, 0, 0, -1, -1],
      [13, -1, 0, 0, 0, -1],
      [14, -1, 0, 0, -1, 0],
    ),
    ["11 0 5 0 0 0", "12 0 0 3 0 0", "13 0 0 0 1 0", "14 0 0 0 0 1"],
  );
  // What adds only to sums, or to counts of values.
  assert.equal(
    await apply([11, 0, 1, 0, 0, 0], [12, 0, 0, 1, 0, 0], [13, 0, 0, 0, 1, 0], [14, 0, 0, 0, 0, 1]),
    ["11 0 6 0 0 0", "12 0 0 4 0 0", "13 0 0 0 2 0", "14 0 0 0 0 2"],
  );
  assert.equal(
    await apply(
      [11, 0, -6, 0, 0, 0],
      [12, 0, 0, -4, 0, 0],
      [13, 0, 0, 0, -2, 0],
      [14, 1, 0, 4, 0, -1],
    ),
    ["14 1 0 4 0 1"],
  );
});

test("a day whose last event goes has no row left, nor anything else", async () => {
  const account = await accountIn("UTC");
  const names = ["conversation_resolved", "conversation_bot_handoff", "reply_time"];
  for (const name of names) {
    await insert(sql, account, { name, value: 1.5, user_id: 7, inbox_id: 3, conversation_id: 9 });
  }
  await sql`delete from public.reporting_events where account_id = ${account}`;
  const [left] = await sql`
    select (select count(*) from rollup.reporting_events_rollups where account_id = ${account})
         + (select count(*) from rollup.ledger where account_id = ${account})
         + (select count(*) from rollup.previous_dates where account_id = ${account})
         + (select count(*) from rollup.deltas where account_id = ${account}) as rows`;
  assert.is(left?.rows, "0");
});

const changes: Record<string, string> = {
  account_id: "account_id = -account_id",
  user_id: "user_id = user_id + 1",
  "user_id to null": "user_id = null",
  inbox_id: "inbox_id = inbox_id + 1",
  conversation_id: "conversation_id = conversation_id + 1",
  "conversation_id to null": "conversation_id = null",
  name: "name = case name when 'reply_time' then 'conversation_resolved' else 'reply_time' end",
  "name to an unknown one": "name = 'conversation_opened'",
  value: "value = value * 1.1, value_in_business_hours = null",
  created_at: "created_at = created_at + interval '20 hours'",
  "everything at once":
    "created_at = created_at - interval '20 hours', user_id = inbox_id, inbox_id = user_id, name = 'conversation_bot_handoff', conversation_id = 1",
  nothing: "value = value",
};

for (const [column, assignment] of Object.entries(changes)) {
  test(`an update of ${column}`, async () => {
    const account = await accountIn("Asia/Kolkata");
    await sql`select rollup.set_reporting_timezone(${-account}, 'America/New_York')`;
    await sql`select rollup.backfill(${-account})`;
    const names = ["conversation_resolved", "conversation_bot_handoff", "reply_time"];
    const events = [1, 2, 3, 4].flatMap((n) =>
      names.map((name) => ({
        name,
        value: n / 7,
        user_id: n % 2,
        inbox_id: n % 3,
        conversation_id: n % 2,
        created_at: `2026-02-0${n} 03:00:00`,
      })),
    );
    await insert(sql, account, ...events);
    await sql.unsafe(
      `update public.reporting_events set ${assignment} where account_id = ${account}`,
    );
    await assertExactEverywhere(account);
    await assertExactEverywhere(-account);
    await sql`delete from public.reporting_events where abs(account_id) = ${account}`;
    assert.equal([await stored(account), await stored(-account)], [[], []]);
  });
}

test("an update that changes nothing that counts writes nothing (rule)", async () => {
  const account = await accountIn("UTC");
  const events: Event[] = Array.from({ length: 60 }, (_, n) => ({
    name: ["reply_time", "conversation_bot_handoff", "conversation_opened"][n % 3] ?? null,
    value: n,
    user_id: n % 4,
    conversation_id: n % 5,
  }));
  await insert(sql, account, ...events);
  const versions = () => sql`
    select r.ctid::text from rollup.reporting_events_rollups as r where account_id = ${account}
    union all select l.ctid::text from rollup.ledger as l where account_id = ${account}
    union all select p.ctid::text from rollup.previous_dates as p where account_id = ${account}
    order by 1`;
  const before = [...(await versions())];
  for (const mode of ["inline", "append"]) {
    await sql`select rollup.set_write_mode(${account}, ${mode})`;
    for (const assignment of [
      "updated_at = now()",
      "event_end_time = now()",
      "value = value + 1e-9",
      "id = -id",
      "created_at = created_at + interval '1 minute'",
      "conversation_id = case when name = 'conversation_bot_handoff' then conversation_id else 7 end",
      "value = case when name = 'conversation_opened' then 99 else value end",
    ]) {
      await sql.unsafe(
        `update public.reporting_events set ${assignment} where account_id = ${account}`,
      );
      await sql.unsafe(
        `update public.reporting_events set ${assignment}
         where id = (select max(id) from public.reporting_events where account_id = ${account})`,
      );
      assert.equal([await pending(account), [...(await versions())]], [0, before], assignment);
    }
  }
  // Of many rows only what changes: two agents' sums of one name.
  await sql`
    update public.reporting_events
    set value = value + case when name = 'reply_time' and user_id = 1 then 1 when name = 'reply_time' and user_id = 2 then -1 else 0 end
    where account_id = ${account}`;
  const deltas = await sql`
    select event_name, user_id::int, count::int, sum_value::int from rollup.deltas where account_id = ${account} order by 2`;
  assert.equal(
    deltas.map((row) => ({ ...row })),
    [
      { event_name: "reply_time", user_id: 1, count: 0, sum_value: 5 },
      { event_name: "reply_time", user_id: 2, count: 0, sum_value: -5 },
    ],
  );
  await assertExactEverywhere(account);
});

test("one update trigger sees both sides: what is netted is one delta", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, { value: 2 }, { value: 3 });
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await sql`update public.reporting_events set value = value * 10 where account_id = ${account}`;
  const deltas =
    await sql`select count::int, sum_value::int from rollup.deltas where account_id = ${account}`;
  assert.equal(
    deltas.map((row) => ({ ...row })),
    [{ count: 0, sum_value: 45 }],
  );
  const triggers = await sql`
    select tgname as name, tgnargs::int as arguments from pg_trigger
    where tgrelid = 'public.reporting_events'::regclass and not tgisinternal order by 1`;
  assert.equal(
    triggers.map(({ name, arguments: count }) => `${name} ${count}`),
    ["delete", "insert", "truncate", "update"].map((event) => `reporting_events_rollup_${event} 0`),
  );
});

test("on any other table than the host's the trigger does nothing, also while there is none", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, {});
  const client = connect();
  const state = async () => [
    await rollups(account),
    await pending(account),
    await cleanDays(account),
  ];
  const before = await state();
  await client.unsafe(`
    create temporary table forged (like public.reporting_events);
    create trigger i after insert on forged referencing new table as events for each statement execute function rollup.track_events();
    create trigger d after delete on forged referencing old table as events for each statement execute function rollup.track_events();
    create trigger u after update on forged referencing old table as old_events new table as new_events
      for each statement execute function rollup.track_events();
    create trigger t after truncate on forged for each statement execute function rollup.track_truncate()`);
  const write = async () => {
    await client.unsafe(`
      insert into forged (id, name, value, account_id, created_at, updated_at)
      values (1, 'first_response', 1, ${account}, '2026-02-11', now()), (2, 'reply_time', 1, ${account}, '2026-02-11', now());
      insert into forged (id, name, value, account_id, created_at, updated_at) values (3, 'first_response', 1, ${account}, '2026-02-11', now());
      update forged set value = 7;
      delete from forged where name = 'reply_time';
      truncate forged`);
  };
  await write();
  assert.equal(await state(), before);
  await client.unsafe("begin; alter table public.reporting_events rename to gone");
  await write();
  await client.unsafe("alter table public.gone rename to reporting_events; commit");
  assert.equal(await state(), before);
  await client.end();
});

test("an event without created_at belongs to no day, where the host allows it", async () => {
  const { sql: scratch, drop } = await createDatabase();
  await scratch`alter table public.reporting_events alter created_at drop not null`;
  await scratch`select rollup.set_reporting_timezone(1, 'UTC')`;
  await scratch`select rollup.backfill(1)`;
  const undated = { created_at: null, user_id: 7, conversation_id: 1 };
  for (const mode of ["inline", "append"]) {
    await scratch`select rollup.set_write_mode(1, ${mode})`;
    for (const name of ["reply_time", "conversation_bot_handoff"]) {
      await insert(scratch, 1, { ...undated, name });
      await insert(
        scratch,
        1,
        { ...undated, name },
        { ...undated, name, created_at: "2026-02-11" },
      );
      await insert(scratch, 1, { ...undated, name }, { ...undated, name });
      await scratch`update public.reporting_events set created_at = '2026-02-12' where id = (select min(id) from public.reporting_events where created_at is null)`;
      await scratch`update public.reporting_events set created_at = null where id = (select max(id) from public.reporting_events where created_at is not null)`;
      await scratch`update public.reporting_events set value = 9 where created_at is null`;
      await scratch`delete from public.reporting_events where id = (select min(id) from public.reporting_events where created_at is null)`;
      await assertExactEverywhere(1, scratch);
    }
  }
  assert.equal([...(await scratch`select * from rollup.dirty_marks`)], []);
  await scratch`select rollup.fold(1)`;
  const before = await stored(1, scratch);
  await scratch`select rollup.backfill(1)`;
  assert.equal(await stored(1, scratch), before);
  await scratch`delete from public.reporting_events`;
  assert.equal(await rollups(1, scratch), []);
  await assertExactEverywhere(1, scratch);
  await drop();
});

test("a host's table with further columns, whatever their names", async () => {
  const { sql: scratch, drop } = await createDatabase();
  await scratch`
    alter table public.reporting_events add sign int, add date date, add generation int, add events int, add e int, add timezone text`;
  await scratch`select rollup.set_reporting_timezone(1, 'UTC')`;
  await scratch`select rollup.backfill(1)`;
  const handoff = { name: "conversation_bot_handoff", conversation_id: 1 };
  await insert(scratch, 1, {});
  await insert(scratch, 1, {}, handoff, { user_id: 7 });
  await scratch`update public.reporting_events set value = 3, sign = 5`;
  await scratch`delete from public.reporting_events where user_id = 7`;
  assert.equal([...(await scratch`select * from rollup.dirty_marks`)], []);
  assert.is(await pending(1, scratch), 0);
  await assertExactEverywhere(1, scratch);
  await scratch`select rollup.backfill(1)`;
  await assertExactEverywhere(1, scratch);
  await drop();
});

test("the host changes types of columns while sessions go on", async () => {
  const { sql: scratch, url, drop } = await createDatabase();
  await scratch`select rollup.set_reporting_timezone(1, 'UTC')`;
  await scratch`select rollup.backfill(1)`;
  const client = connect({ url });
  const writeAll = async () => {
    for (const name of ["reply_time", "conversation_bot_handoff"]) {
      const event = { name, user_id: 7, inbox_id: 3, conversation_id: 1 };
      await insert(client, 1, event);
      await insert(client, 1, event, { ...event, user_id: 8 });
      await client`update public.reporting_events set user_id = user_id + 1 where user_id = 8`;
      await client`delete from public.reporting_events where id = (select min(id) from public.reporting_events)`;
    }
    assert.equal([...(await scratch`select * from rollup.dirty_marks`)], []);
    await assertExactEverywhere(1, scratch);
    await scratch`select rollup.backfill(1)`;
    await assertExactEverywhere(1, scratch);
  };
  await writeAll();
  for (const column of ["account_id", "user_id", "inbox_id", "conversation_id"]) {
    await scratch.unsafe(`alter table public.reporting_events alter ${column} type bigint`);
    await writeAll();
  }
  await scratch`alter table public.reporting_events alter name type text, alter value type numeric`;
  await writeAll();
  await client.end();
  await drop();
});

test("a statement over many accounts, with and without zones", async () => {
  const accounts = [
    await accountIn("UTC"),
    await accountIn("Asia/Tokyo"),
    newAccount(),
    await accountIn("UTC"),
  ];
  await insert(
    sql,
    0,
    ...accounts.flatMap((account_id) => [
      { account_id, created_at: "2026-02-11 18:00:00" },
      { account_id, created_at: "2026-02-11 01:00:00", user_id: 7 },
    ]),
  );
  const [utc, tokyo, none, again] = accounts as [number, number, number, number];
  assert.equal(await stored(utc), [
    `2026-02-11 account ${utc} first_response 2 2 2`,
    "2026-02-11 agent 7 first_response 1 1 1",
  ]);
  assert.equal(await stored(tokyo), [
    `2026-02-11 account ${tokyo} first_response 1 1 1`,
    "2026-02-11 agent 7 first_response 1 1 1",
    `2026-02-12 account ${tokyo} first_response 1 1 1`,
  ]);
  assert.equal(await stored(none), []);
  await assertExactEverywhere(again);
});

test("20,000 events in one statement", async () => {
  const account = await accountIn("America/New_York");
  await sql`
    insert into public.reporting_events (name, value, value_in_business_hours, account_id, user_id, inbox_id, conversation_id, created_at)
    select (array['conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_handoff', 'conversation_opened'])[i % 5 + 1],
      i / 7.0, i / 11.0, ${account}, i % 20, i % 5, i % 3000, timestamp '2025-01-01' + i * interval '5 minutes'
    from generate_series(1, 20000) as i`;
  await assertTotalsExactEverywhere(account);
  await sql`select rollup.fold(${account})`;
  const [total] = await sql`
    select sum(count) as count, sum(sum_value) as sum_value from rollup.reporting_events_rollups
    where account_id = ${account} and dimension_type = 'account' and metric = 'first_response'`;
  const [raw] = await sql`
    select count(*) as count, sum(round(value * 1e6)::bigint) / 1000000 as sum_value from public.reporting_events
    where account_id = ${account} and name = 'first_response'`;
  assert.is(total?.count, "4000");
  assert.is(Number(total?.sum_value), Number(raw?.sum_value));
  await assertTotalsExactEverywhere(account);
});

test.run();
