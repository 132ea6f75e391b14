import { test } from "uvu";
import * as assert from "uvu/assert";
import { database } from "../support/database.js";
import {
  accountIn,
  assertExact,
  cleanDays,
  everything,
  handoff,
  insert,
  pending,
  rollups,
  sqlstate,
  untracked,
} from "./support.js";

const sql = database();

/** Two days with a hand-off of conversation 1 each, a response on the first; the first day is sealed. */
async function sealedAccount({ mode = "inline" } = {}): Promise<number> {
  const account = await accountIn("UTC");
  await sql`select rollup.set_reporting_events_rollup(${account}, true)`;
  await sql`select rollup.set_write_mode(${account}, ${mode})`;
  await insert(sql, account, handoff, { ...handoff, created_at: "2026-02-12 12:00:00" }, {});
  await seal(account, "2026-02-11");
  return account;
}

function seal(account: number, through: string): PromiseLike<unknown> {
  return sql`select rollup.seal(${account}, ${through})`;
}

function remove(account: number, date: string): PromiseLike<unknown> {
  return sql`delete from public.reporting_events where account_id = ${account} and created_at::date = ${date}`;
}

/** Distinct conversations of a range of days. */
async function conversations(account: number, from: string, until: string): Promise<string> {
  const [row] = await sql<{ count: string }[]>`
    select count from rollup.aggregate(${account}, 'bot_handoffs_count', ${`${from} 00:00Z`}, ${`${until} 00:00Z`})`;
  return row?.count ?? "";
}

/** The rows of a query, and nothing else that postgres keeps with them. */
async function rows(query: PromiseLike<readonly unknown[]>): Promise<unknown[]> {
  return [...(await query)];
}

const first = [
  "2026-02-11 account % bot_handoffs_count 1 0 0",
  "2026-02-11 account % first_response 1 1 1",
  "2026-02-11 agent 7 bot_handoffs_count 1 0 0",
];
const second = [
  "2026-02-12 account % bot_handoffs_count 1 0 0",
  "2026-02-12 agent 7 bot_handoffs_count 1 0 0",
];

function of(account: number, lines: string[]): string[] {
  return lines.map((line) => line.replace("%", String(account)));
}

for (const mode of ["inline", "append"]) {
  for (const [how, work] of [
    [
      "of several events",
      (account: number) => sql`delete from public.reporting_events where account_id = ${account}`,
    ],
    [
      "of one event after the other",
      async (account: number) => {
        for (let i = 0; i < 3; i++)
          await sql`
            delete from public.reporting_events
            where ctid = (select ctid from public.reporting_events where account_id = ${account} limit 1)`;
      },
    ],
  ] as const) {
    test(`deletes ${how} do not subtract from sealed days: ${mode}`, async () => {
      const account = await sealedAccount({ mode });
      await work(account);
      for (const folded of [false, true]) {
        if (folded) await sql`select rollup.fold(${account})`;
        assert.equal(await rollups(account), of(account, first));
        assert.is(await conversations(account, "2026-02-11", "2026-02-12"), "1");
        assert.is(await conversations(account, "2026-02-11", "2026-02-13"), "1");
        assert.is(await conversations(account, "2026-02-12", "2026-02-13"), "0");
        const [series] = await sql`
          select count from rollup.timeseries(${account}, 'avg_first_response_time', '2026-02-11 00:00Z', '2026-02-12 00:00Z')`;
        assert.is(series?.count, "1");
      }
      assert.is(await pending(account), 0);
    });
  }

  test(`late inserts and both halves of an update still count on sealed days: ${mode}`, async () => {
    const account = await sealedAccount({ mode });
    await insert(sql, account, { value: 5 });
    await sql`
      update public.reporting_events set created_at = '2026-02-12 00:00:00', value = 3
      where account_id = ${account} and name = 'first_response' and value = 1`;
    for (const folded of [false, true]) {
      if (folded) await sql`select rollup.fold(${account})`;
      assert.equal(
        (await rollups(account)).filter((line) => line.includes("response")),
        of(account, [
          "2026-02-11 account % first_response 1 5 1",
          "2026-02-12 account % first_response 1 3 1",
        ]),
      );
      await assertExact(account);
    }
  });
}

test("a conversation of a sealed day stays the previous one of later days, also when those are rebuilt without its event", async () => {
  const account = await sealedAccount();
  await remove(account, "2026-02-11");
  await untracked(
    (behind) =>
      behind`update public.reporting_events set conversation_id = 2 where account_id = ${account}`,
  );
  const repaired = await sql`select rollup.repair(${account}) as date`;
  assert.equal([...repaired], [{ date: "2026-02-12" }]);
  assert.is(await conversations(account, "2026-02-11", "2026-02-13"), "2");
  await insert(sql, account, { ...handoff, created_at: "2026-02-12 13:00:00" });
  assert.is(await conversations(account, "2026-02-11", "2026-02-13"), "2");
  assert.is(await conversations(account, "2026-02-12", "2026-02-13"), "2");
  await sql`select rollup.backfill(${account})`;
  assert.is(await conversations(account, "2026-02-11", "2026-02-13"), "2");
  assert.is(await conversations(account, "2026-02-12", "2026-02-13"), "2");
  assert.equal(await rows(sql`select * from rollup.verify(${account})`), []);
});

test("sealing further on subtracts what is deleted in between from the new days only", async () => {
  const account = await sealedAccount({ mode: "append" });
  await sql`delete from public.reporting_events where account_id = ${account}`;
  const [row] = await sql`select rollup.seal(${account}, '2026-02-12') as through`;
  assert.is(row?.through, "2026-02-12");
  assert.equal(await rollups(account), of(account, first));
});

test("what cannot be sealed: days that are not over, not clean, or differ; the seal never moves back", async () => {
  const account = await sealedAccount();
  const today = await sql`select (now() at time zone 'UTC')::date::text as today`;
  assert.is(await sqlstate(seal(account, today[0]?.today)), "RU013");
  assert.is(await sqlstate(seal(account, "2026-02-10")), "RU013");
  assert.is(await sqlstate(seal(account, "infinity")), "RU003");
  await sql`insert into rollup.dirty_marks values (${account}, '2026-02-12', now(), 'test')`;
  assert.is(await sqlstate(seal(account, "2026-02-12")), "RU013");
  await sql`select rollup.repair(${account})`;
  await untracked((behind) => insert(behind, account, { created_at: "2026-02-12 12:00:00" }));
  const message = await seal(account, "2026-02-12").then(String, String);
  assert.match(message, /the rollups of 2026-02-12 differ from the raw events/);
  await sql`select rollup.repair(${account})`;
  await seal(account, "2026-02-12");
  await seal(account, "2026-02-12");
});

test("days before the first backfilled one are not clean: they cannot be sealed", async () => {
  const account = await accountIn("UTC", { covered: false });
  await insert(sql, account, {});
  await sql`select rollup.backfill(${account}, '2026-02-11', '2026-02-12')`;
  assert.is(await sqlstate(seal(account, "2026-02-12")), "RU013");
});

test("a rebuild of sealed days is refused where it is asked for, and left out of a whole history", async () => {
  const account = await sealedAccount();
  await remove(account, "2026-02-11");
  const before = await everything(account);
  const refused = [
    sql`select rollup.backfill(${account}, '2026-02-11', '2026-02-12')`,
    sql`select rollup.backfill(${account}, null, '2026-02-11')`,
    sql`select rollup.backfill_date(${account}, '2026-02-11')`,
    sql`select rollup.enqueue_backfill(${account}, '2026-02-11', '2026-02-11')`,
  ];
  for (const call of refused) assert.is(await sqlstate(call), "RU012");
  await sql`select rollup.backfill(${account})`;
  await sql`select rollup.backfill(${account}, null, '2026-02-12')`;
  assert.equal(await rows(sql`select rollup.repair(${account}, '2026-02-11', '2026-02-11')`), []);
  assert.is(await everything(account), before);
  assert.is(await cleanDays(account), "{(,)}");
});

test("a run that was planned before the seal leaves the days alone", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, {}, { created_at: "2026-02-12 12:00:00" });
  const [run] = await sql`select rollup.enqueue_backfill(${account}) as id`;
  await sql`select rollup.continue_backfill(${run?.id})`;
  await seal(account, "2026-02-11");
  await remove(account, "2026-02-11");
  const before = await rollups(account);
  const [step] = await sql`select * from rollup.continue_backfill(${run?.id})`;
  assert.is(step?.outcome, "rebuilt");
  assert.equal(await rollups(account), before);
});

test("an account with sealed days keeps its zone; the same zone is no change", async () => {
  const account = await sealedAccount();
  for (const zone of ["Asia/Tokyo", null]) {
    assert.is(
      await sqlstate(sql`select rollup.set_reporting_timezone(${account}, ${zone})`),
      "RU012",
    );
  }
  await sql`select rollup.set_reporting_timezone(${account}, 'UTC')`;
});

test("unsealed days follow their raw events again, and are raw until they are rebuilt", async () => {
  const account = await sealedAccount({ mode: "append" });
  await remove(account, "2026-02-11");
  const [row] = await sql`select rollup.unseal(${account}) as through`;
  assert.is(row?.through, "2026-02-11");
  assert.is(await cleanDays(account), "{[2026-02-12,)}");
  assert.is(await conversations(account, "2026-02-11", "2026-02-12"), "0");
  const [run] =
    await sql`select id from rollup.backfill_runs where account_id = ${account} and state = 'pending'`;
  for (let i = 0; i < 2; i++) await sql`select rollup.continue_backfill(${run?.id})`;
  assert.is(await cleanDays(account), "{(,)}");
  await assertExact(account);
  assert.equal(await rollups(account), of(account, second));
});

for (const [what, begin] of [
  [
    "the host's table was changed behind our back",
    (account: number) =>
      sql`update rollup.account_settings set generation = rollup.next_generation(generation) where account_id = ${account}`,
  ],
  [
    "the host's table is another",
    (account: number) =>
      sql`update rollup.account_coverage set host_relation = 1 where account_id = ${account}`,
  ],
  [
    "a trigger was missing",
    (account: number) =>
      sql`update rollup.account_coverage set covered = '{}' where account_id = ${account}`,
  ],
  [
    "all is dirty",
    (account: number) =>
      sql`insert into rollup.dirty_marks values (${account}, null, now(), 'truncate')`,
  ],
] as const) {
  for (const folded of [true, false])
    test(`sealed days stay when an account begins anew: ${what}, ${folded ? "and is folded first" : "and is rebuilt first"}`, async () => {
      const account = await sealedAccount({ mode: "append" });
      await insert(sql, account, { value: 5 });
      await remove(account, "2026-02-11");
      await begin(account);
      const after = of(account, [
        first[0] as string,
        "2026-02-11 account % first_response 2 6 2",
        first[2] as string,
      ]);
      const sealed = async () => (await rollups(account)).filter((line) => line < "2026-02-12");
      assert.is(await cleanDays(account), "{(,2026-02-12)}");
      assert.equal(await sealed(), after);
      assert.is(await conversations(account, "2026-02-11", "2026-02-12"), "1");
      if (folded) await sql`select rollup.fold(${account})`;
      assert.equal(await sealed(), after);
      await sql`select rollup.backfill(${account})`;
      assert.is(await cleanDays(account), "{(,)}");
      assert.equal(await rollups(account), [...after, ...of(account, second)]);
      assert.is(await conversations(account, "2026-02-11", "2026-02-13"), "1");
      assert.equal(await rows(sql`select * from rollup.verify(${account})`), []);
    });
}

test("a mark on a sealed day does not send reads to raw events, is shown, and counts once the day is unsealed", async () => {
  const account = await sealedAccount();
  await sql`insert into rollup.dirty_marks values (${account}, '2026-02-11', now(), 'test')`;
  assert.is(await cleanDays(account), "{(,)}");
  await sql`select rollup.backfill(${account})`;
  const status = () =>
    rows(
      sql`select dirty_days::int, problem from rollup.account_status where account_id = ${account}`,
    );
  assert.equal(await status(), [
    { dirty_days: 0, problem: "late changes of sealed days could not be added" },
  ]);
  await sql`select rollup.enqueue_repairs()`;
  assert.equal(
    await rows(
      sql`select from rollup.backfill_runs where account_id = ${account} and state = 'pending'`,
    ),
    [],
  );
  await sql`select rollup.unseal(${account})`;
  assert.equal(await status(), [{ dirty_days: 1, problem: null }]);
});

test("damage on sealed days is not compared; on others verify names it and repair rebuilds those days only", async () => {
  const account = await sealedAccount();
  await sql`update rollup.reporting_events_rollups set count = 9 where account_id = ${account}`;
  const found = await sql`select distinct date from rollup.verify(${account})`;
  assert.equal([...found], [{ date: "2026-02-12" }]);
  assert.equal(await rows(sql`select rollup.repair(${account}) as date`), [{ date: "2026-02-12" }]);
});

test.run();
