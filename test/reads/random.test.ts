/** Random questions at every state of the coverage, with pending deltas and beside writers, against the raw events. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Random } from "../stress/random.js";
import type { Sql } from "../support/client.js";
import { connect, database } from "../support/database.js";
import {
  insertRandom,
  planOf,
  type Question,
  randomQuestion,
  rawMetrics,
  readerAccount,
  wrongAnswers,
} from "./support.js";

const sql = database();
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
/** States of the coverage for each moment: ROUNDS=50 asks for long. */
const rounds = Number(process.env.ROUNDS ?? 3);
const random = new Random(seed);
console.log(`seed ${seed}`);

/** Moments (UTC) at which clocks do something odd. */
const moments: [zone: string, around: string][] = [
  ["UTC", "2024-02-29 00:00"],
  ["America/New_York", "2025-11-02 06:00"],
  ["America/New_York", "2025-03-09 07:00"],
  ["America/Havana", "2024-11-03 05:00"],
  ["America/Havana", "2025-03-09 05:00"],
  ["Atlantic/Azores", "2024-10-27 01:00"],
  ["America/St_Johns", "2006-10-29 02:31"],
  ["Africa/Cairo", "2023-10-26 21:00"],
  ["Africa/Cairo", "2023-04-27 22:00"],
  ["Pacific/Apia", "2011-12-30 10:00"],
  ["Pacific/Kwajalein", "1993-08-21 12:00"],
  ["Australia/Lord_Howe", "2024-04-06 15:00"],
  ["Australia/Lord_Howe", "2024-10-05 15:30"],
  ["Asia/Kathmandu", "2024-12-31 18:15"],
  ["Africa/Monrovia", "1972-01-07 00:44:30"],
];

/** Changes that leave pending deltas, negative ones too. */
async function change(on: Sql, account: number, around: string): Promise<void> {
  await insertRandom(on, random, account, around, 1 + random.int(20));
  await on`
    delete from public.reporting_events
    where account_id = ${account} and id % 11 = ${random.int(11)}::int and id % 3 = ${random.int(3)}::int`;
  await on`
    update public.reporting_events
    set created_at = created_at + ${random.int(60) - 30}::int * interval '1 hour', user_id = nullif(${random.int(4)}::int, 0),
      value = ${random.next()}
    where account_id = ${account} and id % 13 = ${random.int(13)}::int and id % 2 = 0`;
}

/** One more state of the coverage and the deltas; in the beginning all is covered. */
async function disturb(account: number, around: string, step: number): Promise<void> {
  const day = random.int(20) - 10;
  const what = step === 0 ? "append" : random.pick(["dirty", "uncovered", "rebuilt", "folded"]);
  if (what === "append") {
    await sql`select rollup.set_write_mode(${account}, 'append')`;
  } else if (what === "dirty") {
    await sql`
      insert into rollup.dirty_marks (account_id, date, marked_at)
      select ${account}, ${around}::timestamp::date + d, now() from unnest(${[day, random.int(20) - 10]}::int[]) as d`;
  } else if (what === "uncovered") {
    await sql`
      update rollup.account_coverage set covered = covered - datemultirange(daterange(
        ${around}::timestamp::date + ${day}::int, ${around}::timestamp::date + ${day + random.int(4)}::int, '[]'))
      where account_id = ${account}`;
  } else if (what === "rebuilt") {
    await sql`select rollup.backfill(${account})`;
  } else {
    await sql`select rollup.fold(${account})`;
  }
  await change(sql, account, around);
}

async function check(on: Sql, asked: Question): Promise<boolean> {
  const label = JSON.stringify(asked);
  const plan = await planOf(on, asked);
  assert.equal(plan.faults, [], label);
  for (const read of ["timeseries", "aggregate", "summary", "heat_map"] as const) {
    assert.equal(await wrongAnswers(on, read, asked), [], `${read} ${label}`);
  }
  const raw = { ...asked, metric: random.pick(rawMetrics) };
  for (const read of ["timeseries", "aggregate"] as const) {
    assert.equal(await wrongAnswers(on, read, raw), [], `${read} ${raw.metric} ${label}`);
  }
  assert.not((await planOf(on, raw)).rollups);
  return plan.rollups;
}

for (const [zone, around] of moments) {
  test(`any question around ${around}Z in ${zone}`, async () => {
    const account = await readerAccount(zone, { covered: false });
    await insertRandom(sql, random, account, around, 150);
    await sql`select rollup.backfill(${account})`;
    let fromRollups = 0;
    for (let step = 0; step < rounds; step++) {
      await disturb(account, around, step);
      for (let count = 0; count < 2; count++) {
        const asked = await randomQuestion(sql, random, account, zone, around);
        if (await check(sql, asked)) fromRollups++;
        // The same from raw events alone.
        if (count === 0) {
          await sql`select rollup.set_reporting_events_rollup(${account}, false)`;
          assert.not(await check(sql, asked));
          await sql`select rollup.set_reporting_events_rollup(${account}, true)`;
        }
      }
    }
    assert.ok(fromRollups > 0, "no question was answered from rollups");
  });
}

test("a plan ends where the question does, also between the two midnights of a day", async () => {
  const account = await readerAccount("America/Havana", { covered: false });
  await insertRandom(sql, random, account, "2024-11-03 05:00", 50);
  await sql`select rollup.backfill(${account})`;
  const { faults } = await planOf(sql, {
    account,
    metric: "resolutions_count",
    since: "2024-11-02 04:00:00+00",
    until: "2024-11-03 04:59:59+00",
    groupBy: "year",
    dimension: "account",
    id: null,
    businessHours: false,
    timezone: null,
  } as Question);
  assert.equal(faults, []);
});

test("the answer of a moment while others write, fold and rebuild", async () => {
  const zone = "America/Havana";
  const around = "2024-11-03 05:00";
  const account = await readerAccount(zone, { covered: false });
  await insertRandom(sql, random, account, around, 300);
  await sql`select rollup.backfill(${account})`;
  let busy = true;
  const work = async (task: (on: Sql) => PromiseLike<unknown>) => {
    const on = connect();
    while (busy) await task(on);
    await on.end();
  };
  const writers = [
    work((on) => change(on, account, around)),
    work((on) => change(on, account, around)),
    work((on) => on`select rollup.fold(${account})`),
    work(async (on) => {
      const day = random.int(10) - 5;
      await on`select rollup.backfill_date(${account}, ${around}::timestamp::date + ${day}::int)`;
      await on`
        select rollup.set_write_mode(${account}, ${random.pick(["inline", "append"])})`;
    }),
  ];
  try {
    let fromRollups = 0;
    const reader = connect();
    for (let count = 0; count < 3 * rounds; count++) {
      const asked = await randomQuestion(reader, random, account, zone, around);
      await reader`begin isolation level repeatable read`;
      if (await check(reader, asked)) fromRollups++;
      await reader`commit`;
    }
    await reader.end();
    assert.ok(fromRollups > rounds / 3, `${fromRollups} questions were answered from rollups`);
  } finally {
    busy = false;
    await Promise.all(writers);
  }
});

test.run();
