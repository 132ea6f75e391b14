/** verify finds every kind of difference, repair mends it. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect, database } from "../support/database.js";
import {
  accountIn,
  assertExactEverywhere,
  cleanDays,
  insert,
  newAccount,
  sqlstate,
  untracked,
} from "./support.js";

const sql = database();

interface Found {
  structure: string;
  date: string;
  dimension_type: string;
  dimension_id: string;
  metric: string;
  expected_count: string | null;
  actual_count: string | null;
  expected_sum_value: string | null;
  actual_sum_value: string | null;
  expected_sum_value_business_hours: string | null;
  actual_sum_value_business_hours: string | null;
  expected_count_value: string | null;
  actual_count_value: string | null;
  expected_count_value_business_hours: string | null;
  actual_count_value_business_hours: string | null;
}

async function verify(
  account: number,
  from: string | null = null,
  to: string | null = null,
): Promise<Found[]> {
  return [...(await sql<Found[]>`select * from rollup.verify(${account}, ${from}, ${to})`)];
}

async function repair(account: number): Promise<string[]> {
  const rows = await sql<{ date: string }[]>`select rollup.repair(${account}) as date`;
  return rows.map(({ date }) => date);
}

async function filled(): Promise<number> {
  const account = await accountIn("UTC");
  for (const day of [10, 11, 12]) {
    const common = {
      user_id: 7,
      conversation_id: 1,
      created_at: `2026-02-${day} 12:00:00`,
      value: 5,
    };
    await insert(
      sql,
      account,
      { ...common, name: "conversation_bot_handoff" },
      { ...common, name: "conversation_resolved" },
      { ...common, conversation_id: 2, name: "conversation_bot_handoff" },
      common,
    );
  }
  await assertExactEverywhere(account);
  return account;
}

const damages: [string, string, (account: number) => string][] = [
  [
    "a row gone",
    "rollup",
    (a) =>
      `delete from rollup.reporting_events_rollups where account_id = ${a} and date = '2026-02-11' and metric = 'first_response'`,
  ],
  [
    "a row too many",
    "rollup",
    (a) =>
      `insert into rollup.reporting_events_rollups values (${a}, '2026-02-11', 'inbox', 5, 'reply_time', 1)`,
  ],
  [
    "a wrong count",
    "rollup",
    (a) =>
      `update rollup.reporting_events_rollups set count = count + 1 where account_id = ${a} and date = '2026-02-11' and metric = 'bot_handoffs_count'`,
  ],
  [
    "a wrong sum",
    "rollup",
    (a) =>
      `update rollup.reporting_events_rollups set sum_value = sum_value + 0.000001 where account_id = ${a} and date = '2026-02-11' and metric = 'first_response'`,
  ],
  [
    "a wrong business sum",
    "rollup",
    (a) =>
      `update rollup.reporting_events_rollups set sum_value_business_hours = 0 where account_id = ${a} and date = '2026-02-11' and metric = 'first_response'`,
  ],
  [
    "a wrong count of values",
    "rollup",
    (a) =>
      `update rollup.reporting_events_rollups set count_value = count_value + 1 where account_id = ${a} and date = '2026-02-11' and metric = 'first_response'`,
  ],
  [
    "a wrong count of values in business hours",
    "rollup",
    (a) =>
      `update rollup.reporting_events_rollups set count_value_business_hours = 0 where account_id = ${a} and date = '2026-02-11' and metric = 'first_response'`,
  ],
  [
    "a distinct count gone",
    "rollup",
    (a) =>
      `delete from rollup.reporting_events_rollups where account_id = ${a} and date = '2026-02-11' and metric = 'bot_handoffs_count'`,
  ],
  [
    "a distinct count too many",
    "rollup",
    (a) =>
      `insert into rollup.reporting_events_rollups values (${a}, '2026-02-11', 'inbox', 5, 'bot_handoffs_count', 1)`,
  ],
  [
    "a total of no known metric",
    "rollup",
    (a) =>
      `insert into rollup.reporting_events_rollups values (${a}, '2026-02-11', 'account', ${a}, 'forgotten_count', 1)`,
  ],
  [
    "a wrong previous date, the count of its day being right",
    "previous_date",
    (a) =>
      `update rollup.previous_dates set previous_date = '-infinity' where account_id = ${a} and date = '2026-02-11' and previous_date = '2026-02-10'`,
  ],
  [
    "a wrong ledger count",
    "ledger",
    (a) =>
      `update rollup.ledger set count = 7 where account_id = ${a} and date = '2026-02-11' and conversation_id = 2`,
  ],
  [
    "a ledger row gone",
    "ledger",
    (a) =>
      `delete from rollup.ledger where account_id = ${a} and date = '2026-02-11' and conversation_id = 2`,
  ],
  [
    "a ledger row too many",
    "ledger",
    (a) =>
      `insert into rollup.ledger values (${a}, 'conversation_bot_handoff', 9, '2026-02-11', 1, null, null)`,
  ],
  [
    "a wrong previous date",
    "previous_date",
    (a) =>
      `update rollup.previous_dates set count = 9 where account_id = ${a} and date = '2026-02-11'`,
  ],
  [
    "a previous date gone",
    "previous_date",
    (a) => `delete from rollup.previous_dates where account_id = ${a} and date = '2026-02-11'`,
  ],
  [
    "a previous date too many",
    "previous_date",
    (a) =>
      `insert into rollup.previous_dates values (${a}, 'conversation_bot_handoff', 'inbox', 3, '2026-02-11', '2026-02-01', 1)`,
  ],
  [
    "a delta gone astray",
    "rollup",
    (a) =>
      `insert into rollup.deltas select ${a}, generation, '2026-02-11', 'reply_time', 7, 3, null, 1, 0, 0, false from rollup.account_settings where account_id = ${a}`,
  ],
];

for (const [what, structure, damage] of damages) {
  test(`${what} is found and repaired`, async () => {
    const account = await filled();
    await sql.unsafe(damage(account));
    const found = await verify(account);
    assert.ok(
      found.some((row) => row.structure === structure && row.date === "2026-02-11"),
      JSON.stringify(found),
    );
    assert.equal(await verify(account, "2026-02-13"), []);
    const repaired = await repair(account);
    assert.ok(repaired.includes("2026-02-11"));
    await assertExactEverywhere(account);
    assert.equal(await repair(account), []);
  });
}

test("an event that no trigger saw, in words and numbers", async () => {
  const account = await filled();
  await untracked((behind) =>
    insert(behind, account, { value: 7, created_at: "2026-02-11 13:00:00" }),
  );
  const [found, ...rest] = await verify(account);
  assert.equal(rest, []);
  assert.is(found?.structure, "rollup");
  assert.is(found?.date, "2026-02-11");
  assert.is(found?.dimension_type, "account");
  assert.is(found?.dimension_id, String(account));
  assert.is(found?.metric, "first_response");
  assert.is(found?.expected_count, "2");
  assert.is(found?.actual_count, "1");
  assert.is(found?.expected_sum_value, "12");
  assert.is(found?.actual_sum_value, "5");
  assert.equal(
    [found?.expected_sum_value_business_hours, found?.actual_sum_value_business_hours],
    ["2", "1"],
  );
  assert.equal([found?.expected_count_value, found?.actual_count_value], ["2", "1"]);
  assert.equal(
    [found?.expected_count_value_business_hours, found?.actual_count_value_business_hours],
    ["2", "1"],
  );
  assert.equal(await repair(account), ["2026-02-11"]);
});

test("a value that came and went behind the trigger: only the count of values differs", async () => {
  const account = await filled();
  await untracked(
    (behind) =>
      behind`update public.reporting_events set value = 0 where account_id = ${account} and name = 'first_response' and created_at::date = '2026-02-11'`,
  );
  await sql`update rollup.reporting_events_rollups set sum_value = 0, count_value = 0
    where account_id = ${account} and date = '2026-02-11' and metric = 'first_response'`;
  const found = await verify(account);
  assert.equal(
    found.map((row) => [
      row.dimension_type,
      row.expected_sum_value,
      row.expected_count_value,
      row.actual_count_value,
    ]),
    [
      ["account", "0", "1", "0"],
      ["agent", "0", "1", "0"],
    ],
  );
  assert.equal(await repair(account), ["2026-02-11"]);
  await assertExactEverywhere(account);
});

test("one round of repair is enough: a hand-off that no trigger saw, before and between others", async () => {
  const account = await filled();
  await untracked((behind) =>
    insert(
      behind,
      account,
      {
        name: "conversation_bot_handoff",
        conversation_id: 2,
        user_id: 8,
        created_at: "2026-02-08 12:00:00",
      },
      {
        name: "conversation_bot_handoff",
        conversation_id: 1,
        user_id: 7,
        created_at: "2026-02-11 13:00:00",
      },
    ),
  );
  // What the raw events say of the ledger is found; the rest follows from it.
  assert.equal(
    (await verify(account)).map((row) => `${row.structure} ${row.date}`),
    ["ledger 2026-02-08", "ledger 2026-02-11"],
  );
  assert.equal(await repair(account), ["2026-02-08", "2026-02-11"]);
  await assertExactEverywhere(account);
});

test("an event that no trigger saw, deleted: its total is below 0, which reads would add", async () => {
  const account = await filled();
  await untracked((behind) =>
    insert(behind, account, { name: "reply_time", value: 4, created_at: "2026-02-11 13:00:00" }),
  );
  await sql`delete from public.reporting_events where account_id = ${account} and name = 'reply_time'`;
  const [found, ...rest] = await verify(account);
  assert.equal(rest, []);
  assert.is(found?.expected_count, null);
  assert.is(found?.actual_count, "-1");
  assert.equal(await repair(account), ["2026-02-11"]);
  await assertExactEverywhere(account);
});

test("a difference on a day without end is repaired", async () => {
  const account = await filled();
  await insert(sql, account, { user_id: 7, created_at: "infinity" });
  await sql`update rollup.reporting_events_rollups set count = 5 where account_id = ${account} and date = 'infinity'`;
  assert.equal([...new Set((await verify(account)).map(({ date }) => date))], ["infinity"]);
  assert.equal(await repair(account), ["infinity"]);
  assert.equal(await verify(account), []);
});

test("verify looks at the days asked for, and at clean days only", async () => {
  const account = await filled();
  await sql`update rollup.reporting_events_rollups set count = count + 1 where account_id = ${account}`;
  const dates = async (from: string | null, to: string | null) =>
    [...new Set((await verify(account, from, to)).map(({ date }) => date))].sort();
  assert.equal(await dates(null, null), ["2026-02-10", "2026-02-11", "2026-02-12"]);
  assert.equal(await dates("2026-02-11", "2026-02-11"), ["2026-02-11"]);
  assert.equal(await dates("2026-02-11", null), ["2026-02-11", "2026-02-12"]);
  await sql`insert into rollup.dirty_marks values (${account}, '2026-02-11', now(), 'test')`;
  assert.equal(await dates(null, null), ["2026-02-10", "2026-02-12"]);
  await sql`insert into rollup.dirty_marks values (${account}, null, now(), 'test')`;
  assert.equal(await dates(null, null), []);
});

test("verify writes nothing and runs in a read-only transaction", async () => {
  const account = await filled();
  const client = connect({ settings: { default_transaction_read_only: "on" } });
  try {
    assert.equal([...(await client`select * from rollup.verify(${account})`)], []);
  } finally {
    await client.end();
  }
});

test("repair rebuilds dirty days although nothing differs", async () => {
  const account = await filled();
  await sql`
    insert into rollup.dirty_marks values (${account}, '2026-02-11', now(), 'test'), (${account}, '2026-02-20', now(), 'test')`;
  assert.is(await cleanDays(account), "{(,2026-02-11),[2026-02-12,2026-02-20),[2026-02-21,)}");
  assert.equal(await repair(account), ["2026-02-11", "2026-02-20"]);
  await assertExactEverywhere(account);
});

test("repair mends an account-wide mark", async () => {
  const account = await filled();
  await untracked(
    (behind) =>
      behind`delete from public.reporting_events where account_id = ${account} and created_at < '2026-02-11'`,
  );
  await sql`insert into rollup.dirty_marks values (${account}, null, now(), 'test')`;
  assert.is(await cleanDays(account), "{}");
  const repaired = await repair(account);
  assert.ok(repaired.includes("2026-02-10"), repaired.join());
  await assertExactEverywhere(account);
});

test("errors", async () => {
  const account = await accountIn("UTC");
  const none = newAccount();
  const state = (query: string) => sqlstate(sql.unsafe(query));
  for (const name of ["verify", "repair"]) {
    assert.is(await state(`select rollup.${name}(null)`), "RU009");
    assert.is(await state(`select rollup.${name}(${none})`), "RU002");
    assert.is(
      await state(`select rollup.${name}(${account}, '2026-01-02', '2026-01-01')`),
      "RU003",
    );
    assert.is(await state(`select rollup.${name}(${account}, '-infinity')`), "RU003");
  }
  await sql`insert into rollup.dirty_marks values (${account}, '2026-02-11', now(), 'test')`;
  const attempt = sql.begin(
    "isolation level repeatable read",
    (tx) => tx`select rollup.repair(${account})`,
  );
  assert.is(await sqlstate(attempt), "RU004");
});

test.run();
