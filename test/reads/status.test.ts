/** How accounts stand, at a glance. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect, createDatabase, database } from "../support/database.js";
import { insertEvents, planOf, question, readerAccount, wrongAnswers } from "./support.js";

const sql = database();

async function status(account: number, on = sql) {
  const [row] = await on`select * from rollup.account_status where account_id = ${account}`;
  return row as Record<string, unknown>;
}

test("an account that is covered, with dirty days, pending deltas and a run", async () => {
  const account = await readerAccount("America/New_York");
  await insertEvents(
    sql,
    account,
    { created_at: "2026-02-02 04:00" },
    { created_at: "2026-02-11 12:00" },
  );
  await sql`select rollup.set_write_mode(${account}, 'append')`;
  await insertEvents(sql, account, { created_at: "2026-02-05 12:00" });
  await insertEvents(sql, account, { created_at: "2026-02-06 12:00" });
  await sql`
    insert into rollup.dirty_marks (account_id, date, marked_at)
    values (${account}, '2026-02-03', now()), (${account}, '2026-02-03', now()), (${account}, '2026-02-04', now())`;
  await sql`update rollup.backfill_runs set state = 'done' where account_id = ${account}`;
  const [run] = await sql<{ id: string }[]>`
    insert into rollup.backfill_runs (account_id, generation, from_date, to_date) values (${account}, 0, '2026-02-03', '2026-02-04')
    returning id`;
  const {
    reporting_timezone,
    reporting_events_rollup,
    covered,
    covered_share,
    dirty_days,
    pending_deltas,
    running_backfill_id,
    awaited_by,
    problem,
  } = await status(account);
  assert.equal(
    {
      reporting_timezone,
      reporting_events_rollup,
      covered,
      covered_share,
      dirty_days,
      pending_deltas,
      running_backfill_id,
      awaited_by,
      problem,
    },
    {
      reporting_timezone: "America/New_York",
      reporting_events_rollup: true,
      covered: "{(,)}",
      // From the first of February to the eleventh, less two.
      covered_share: "0.8182",
      dirty_days: "2",
      pending_deltas: "2",
      running_backfill_id: run?.id,
      awaited_by: [],
      problem: null,
    },
  );
  await sql`insert into rollup.dirty_marks (account_id, marked_at) values (${account}, now())`;
  const dirty = await status(account);
  assert.is(dirty.covered_share, "0.0000");
  assert.is(dirty.problem, "all of its days are dirty");
});

test("an account without zone, one without events", async () => {
  const account = await readerAccount("UTC");
  assert.is((await status(account)).covered_share, null);
  await sql`select rollup.set_reporting_timezone(${account}, null)`;
  const { reporting_timezone, covered, covered_share, problem } = await status(account);
  assert.equal([reporting_timezone, covered, covered_share, problem], [null, "{}", null, null]);
});

test("who is awaited before days are claimed", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(sql, account, { created_at: "2026-02-11 12:00" });
  const other = await readerAccount("UTC");
  const writer = connect();
  await writer`begin`;
  await insertEvents(writer, other, { created_at: "2026-02-12 12:00" });
  const [process] = await writer<{ pid: number }[]>`select pg_backend_pid() as pid`;
  await sql`select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`;
  await sql`select rollup.backfill(${account})`;
  const waiting = await status(account);
  assert.is(waiting.covered, "{}");
  assert.ok(
    (waiting.awaited_by as string[]).includes(`process ${process?.pid}`),
    String(waiting.awaited_by),
  );
  await writer`commit`;
  await writer.end();
  assert.not.ok(
    ((await status(account)).awaited_by as string[]).includes(`process ${process?.pid}`),
  );
  await sql`select rollup.backfill(${account})`;
  const { covered, awaited_by } = await status(account);
  assert.equal([covered, awaited_by], ["{(,)}", []]);
});

test("another table in the place of the host's: its events are read, and status says so", async () => {
  const one = await createDatabase();
  const on = connect({ url: one.url });
  try {
    await one.sql`select rollup.set_reporting_timezone(1, 'UTC'), rollup.set_reporting_events_rollup(1, true)`;
    await one.sql`select rollup.backfill(1)`;
    await insertEvents(one.sql, 1, { created_at: "2026-02-11 12:00" });
    await one.sql`create table public.copy (like public.reporting_events including all)`;
    await one.sql`alter table public.copy alter id restart with 1000`;
    await one.sql`insert into public.copy select * from public.reporting_events`;
    await one.sql`alter table public.reporting_events rename to former`;
    await one.sql`alter table public.copy rename to reporting_events`;
    await insertEvents(one.sql, 1, { created_at: "2026-02-12 12:00" });
    const asked = { ...question, account: 1 };
    assert.equal(await wrongAnswers(on, "timeseries", asked), []);
    assert.not((await planOf(on, asked)).rollups);
    const { covered, problem } = await status(1, on);
    assert.equal(
      [covered, problem],
      ["{}", "its rollups were made from another table than public.reporting_events is now"],
    );
    // Nothing of ours holds on to either.
    await one.sql`drop table public.former`;
  } finally {
    await on.end();
    await one.drop();
  }
});

test.run();
