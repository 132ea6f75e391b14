/** The trigger: which rows an event becomes, whatever statement brings it. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { database } from "../support/database.js";
import {
  accountIn,
  assertExactEverywhere,
  assertTotalsExactEverywhere,
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

test("values are rounded to microseconds, large ones without loss", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, { value: 1.0000004, value_in_business_hours: 1.0000016 });
  await insert(sql, account, { value: 9007199254.740992, value_in_business_hours: -3.5 });
  assert.equal(await stored(account), [
    `2026-02-11 account ${account} first_response 2 9007199255.740992 -2.499998`,
  ]);
  await assertExactEverywhere(account);
});

test("a row without count stays while its sums are not 0 (rule: count and both sums)", async () => {
  const account = await accountIn("UTC");
  await sql`
    insert into rollup.deltas select ${account}, generation, date::date, 'first_response', 7, null, null, c, s, b, false
    from rollup.account_settings,
      (values ('2026-02-11', 1, 5, 0), ('2026-02-11', -1, 0, 0), ('2026-02-12', 1, 0, 3), ('2026-02-12', -1, 0, 0)) as d (date, c, s, b)
    where account_id = ${account}`;
  await sql`select rollup.fold(${account})`;
  assert.equal(await stored(account), [
    `2026-02-11 account ${account} first_response 0 5 0`,
    "2026-02-11 agent 7 first_response 0 5 0",
    `2026-02-12 account ${account} first_response 0 0 3`,
    "2026-02-12 agent 7 first_response 0 0 3",
  ]);
  await sql`
    insert into rollup.deltas select ${account}, generation, date::date, 'first_response', 7, null, null, 1, 0, 4, false
    from rollup.account_settings, (values ('2026-02-11'), ('2026-02-12')) as d (date) where account_id = ${account}`;
  await sql`select rollup.fold(${account})`;
  assert.equal(await stored(account), [
    `2026-02-11 account ${account} first_response 1 5 4`,
    "2026-02-11 agent 7 first_response 1 5 4",
    `2026-02-12 account ${account} first_response 1 0 7`,
    "2026-02-12 agent 7 first_response 1 0 7",
  ]);
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

test("100,000 events in one statement", async () => {
  const account = await accountIn("America/New_York");
  await sql`
    insert into public.reporting_events (name, value, value_in_business_hours, account_id, user_id, inbox_id, conversation_id, created_at)
    select (array['conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_handoff', 'conversation_opened'])[i % 5 + 1],
      i / 7.0, i / 11.0, ${account}, i % 20, i % 5, i % 3000, timestamp '2025-01-01' + i * interval '5 minutes'
    from generate_series(1, 100000) as i`;
  await assertTotalsExactEverywhere(account);
  await sql`select rollup.fold(${account})`;
  const [total] = await sql`
    select sum(count) as count, sum(sum_value) as sum_value from rollup.reporting_events_rollups
    where account_id = ${account} and dimension_type = 'account' and metric = 'first_response'`;
  const [raw] = await sql`
    select count(*) as count, sum(round(value * 1e6)::bigint) / 1000000 as sum_value from public.reporting_events
    where account_id = ${account} and name = 'first_response'`;
  assert.is(total?.count, "20000");
  assert.is(Number(total?.sum_value), Number(raw?.sum_value));
  await assertTotalsExactEverywhere(account);
});

test.run();
