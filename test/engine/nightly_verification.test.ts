import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect, database } from "../support/database.js";
import { accountIn, assertExact, cleanDays, handoff, insert, untracked } from "./support.js";

const sql = database();

interface Night {
  account_id: number | null;
  verified_from: string | null;
  differences: string | null;
  days: number | null;
}

/** 3 o'clock in the night of this date in New York, and there alone of the zones here. */
function night(date: string): string {
  return `${date} 03:00 America/New_York`;
}

async function verifyNext(at: string, on = sql): Promise<Night> {
  const [row] = await on<Night[]>`select * from rollup.verify_next(${at})`;
  return row as Night;
}

/** An account with an event each day from 2025-03-01 to 2026-03-09, verified last at noon of 2026-03-09. */
async function yearlyAccount(): Promise<number> {
  await sql`update rollup.account_settings set reporting_timezone = null`;
  const account = await accountIn("America/New_York");
  await sql`
    insert into public.reporting_events (name, value, account_id, user_id, inbox_id, conversation_id, created_at)
    select (rollup.event_names())[1 + i % 5], i, ${account}::int, i % 4, nullif(i % 3, 0), i % 97, timestamp '2025-03-01 16:00' + i * interval '1 day'
    from generate_series(0, 373) as i`;
  return account;
}

async function repairs(account: number): Promise<void> {
  await sql`select rollup.enqueue_repairs()`;
  for (;;) {
    const [run] = await sql`
      select id, job_id from rollup.backfill_runs where account_id = ${account} and state in ('pending', 'running')`;
    if (run === undefined) return;
    await sql`select rollup.continue_backfill(${run.id}, ${run.job_id})`;
  }
}

test("events that no trigger saw are found at night, and their days rebuilt", async () => {
  const account = await yearlyAccount();
  await untracked((replica) =>
    insert(replica, account, { ...handoff, conversation_id: 7, created_at: "2026-03-08 12:00" }),
  );
  const found = await verifyNext(night("2026-03-10"));
  assert.is(found.account_id, account);
  assert.is(found.days, 1);
  // Of the ledger, from which the other structures follow.
  assert.is(found.differences, "1");
  assert.is(await cleanDays(account), "{(,2026-03-08),[2026-03-09,)}");
  const [status] = await sql`
    select last_verification_differences, last_verification_days, last_verified_at = ${night("2026-03-10")} as then
    from rollup.account_status where account_id = ${account}`;
  assert.equal(
    { ...status },
    {
      last_verification_differences: found.differences,
      last_verification_days: 1,
      // biome-ignore lint/suspicious/noThenProperty: a column
      then: true,
    },
  );
  await repairs(account);
  assert.is(await cleanDays(account), "{(,)}");
  await assertExact(account);
  const again = await verifyNext(night("2026-03-11"));
  assert.equal([again.account_id, again.differences, again.days], [account, "0", 0]);
});

test("every day is seen within 30 nights", async () => {
  const account = await yearlyAccount();
  for (const date of ["2025-03-01", "2025-07-14", "2026-02-27"]) {
    await untracked((replica) =>
      insert(replica, account, { ...handoff, conversation_id: 7, created_at: `${date} 18:00` }),
    );
  }
  // A row that no event stands for, before all events and after them.
  await sql`
    insert into rollup.reporting_events_rollups (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours)
    select ${account}, date, 'account', ${account}, 'resolutions_count', 1, 0, 0
    from unnest('{2024-12-24,2026-12-24}'::date[]) as date`;
  const dates = new Set<string>();
  for (let nights = 0; nights < 30; nights++) {
    const day = new Date(Date.UTC(2026, 2, 10 + nights)).toISOString().slice(0, 10);
    assert.is((await verifyNext(night(day))).account_id, account, day);
    const marks = await sql`select date from rollup.dirty_marks where account_id = ${account}`;
    for (const { date } of marks) dates.add(date);
  }
  assert.equal([...dates].sort(), [
    "2024-12-24",
    "2025-03-01",
    "2025-07-14",
    "2026-02-27",
    "2026-12-24",
  ]);
});

test("only between one and five o'clock in the account's zone, and once a night", async () => {
  const account = await yearlyAccount();
  for (const time of ["00:59:59", "05:00", "12:00"]) {
    const { account_id } = await verifyNext(`2026-03-10 ${time} America/New_York`);
    assert.is(account_id, null, time);
  }
  assert.is((await verifyNext("2026-03-10 01:00 America/New_York")).account_id, account);
  assert.is((await verifyNext("2026-03-10 04:59:59 America/New_York")).account_id, null);
  assert.is((await verifyNext("2026-03-11 04:59:59 America/New_York")).account_id, account);
});

test("one account at a time, whoever asks; the next one goes first that was seen longest ago", async () => {
  const one = await yearlyAccount();
  const other = await accountIn("America/New_York");
  await insert(sql, other, { ...handoff, created_at: "2026-01-05 12:00" });
  const second = connect({ max: 1 });
  try {
    await second.begin(async (tx) => {
      assert.is(
        (await verifyNext(night("2026-03-10"), tx as unknown as typeof sql)).account_id,
        one,
      );
      assert.is((await verifyNext(night("2026-03-10"))).account_id, null);
    });
  } finally {
    await second.end();
  }
  assert.is((await verifyNext(night("2026-03-10"))).account_id, other);
  assert.is((await verifyNext(night("2026-03-10"))).account_id, null);
});

test("accounts that are being backfilled, or that nothing is covered of, are left alone", async () => {
  const account = await yearlyAccount();
  await sql`update rollup.account_coverage set covered = '{}' where account_id = ${account}`;
  assert.is((await verifyNext(night("2026-03-10"))).account_id, null);
  await sql`update rollup.account_coverage set covered = '{(,)}' where account_id = ${account}`;
  const [run] = await sql`select rollup.enqueue_backfill(${account}) as id`;
  await sql`update rollup.backfill_runs set state = 'running', started_at = now() where id = ${run?.id}`;
  assert.is((await verifyNext(night("2026-03-10"))).account_id, null);
  await sql`select rollup.cancel_backfill(${run?.id})`;
  assert.is((await verifyNext(night("2026-03-10"))).account_id, account);
});

test("an account of which all days are dirty waits for its repair", async () => {
  const account = await yearlyAccount();
  await sql`insert into rollup.dirty_marks values (${account}, null, now(), 'test')`;
  assert.is((await verifyNext(night("2026-03-10"))).account_id, null);
  await repairs(account);
  assert.is((await verifyNext(night("2026-03-10"))).account_id, account);
});

test("sealed days are not compared", async () => {
  const account = await yearlyAccount();
  await sql`select rollup.seal(${account}, '2025-12-31')`;
  await sql`delete from public.reporting_events where account_id = ${account} and created_at < '2025-12-01'`;
  for (let nights = 0; nights < 30; nights++) {
    const day = new Date(Date.UTC(2026, 2, 10 + nights)).toISOString().slice(0, 10);
    const seen = await verifyNext(night(day));
    assert.equal([seen.account_id, seen.differences], [account, "0"], day);
  }
});

test("an account that cannot be verified does not keep the others waiting", async () => {
  const account = await yearlyAccount();
  const other = await accountIn("America/New_York");
  await insert(sql, other, { ...handoff, created_at: "2026-01-05 12:00" });
  await verifyNext(night("2026-03-09"));
  await verifyNext(night("2026-03-09"));
  // Pending counts that are beyond what a bigint holds.
  await sql`
    insert into rollup.deltas (account_id, generation, date, event_name, count, sum_value, sum_value_business_hours, from_delete)
    select account_id, generation, '2026-03-08', 'reply_time', 9223372036854775807, 0, 0, false
    from rollup.account_settings, generate_series(1, 2) where account_id = ${account}`;
  const failed = await verifyNext(night("2026-03-10"));
  assert.equal([failed.account_id, failed.differences, failed.days], [account, null, null]);
  assert.is((await verifyNext(night("2026-03-10"))).account_id, other);
  await sql`delete from rollup.deltas where account_id = ${account}`;
  const next = await verifyNext(night("2026-03-11"));
  assert.is(next.account_id, account);
  // It goes on where it had come to, the failed night apart.
  assert.ok(failed.verified_from !== null && next.verified_from !== null);
  assert.ok(next.verified_from < failed.verified_from, `${next.verified_from}`);
});

test.run();
