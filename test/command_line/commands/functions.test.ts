/** The SQL functions that the command line and the worker have for themselves. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect, database, databaseUrl } from "../../support/database.js";
import { addHistory } from "./support.js";

const sql = database();

test("a day begins at its first instant, wherever clocks go", async () => {
  const wrong = await sql`
    select z.zone, d::date as date, rollup.day_begins(d::date, z.zone) as begins
    from unnest(array[
      'America/Havana', 'Atlantic/Azores', 'Africa/Cairo', 'Asia/Beirut', 'America/Santiago', 'America/New_York',
      'Asia/Kolkata', 'Australia/Lord_Howe', 'Pacific/Apia', 'UTC'
    ]) as z (zone)
    cross join generate_series(timestamp '2011-01-01', timestamp '2026-12-31', interval '1 day') as d
    cross join lateral (select rollup.day_begins(d::date, z.zone) at time zone 'UTC' as begins) as b
    where (
      rollup.local_date(b.begins, z.zone) <> d::date
      or rollup.local_date(b.begins - interval '1 microsecond', z.zone) = d::date
    )
    -- The day that Samoa left out.
    and (z.zone, d) <> ('Pacific/Apia', '2011-12-30')`;
  assert.equal([...wrong], []);
  const [havana] = await sql`
    select rollup.day_begins('2024-11-03', 'America/Havana') at time zone 'UTC' as begins`;
  assert.is(havana?.begins, "2024-11-03 04:00:00");
});

test("the range of a report: dates of the account, the end exclusive, and as many days before", async () => {
  await addHistory(sql, { events: 10, timezone: "America/Havana" });
  const [given] = await sql`
    select timezone, since, until, days, starts at time zone 'UTC' as starts, ends at time zone 'UTC' as ends, previous_since
    from rollup.report_window(1, '2024-11-03', '2024-11-05')`;
  assert.equal(
    { ...given },
    {
      timezone: "America/Havana",
      since: "2024-11-03",
      until: "2024-11-05",
      days: 2,
      starts: "2024-11-03 04:00:00",
      ends: "2024-11-05 05:00:00",
      previous_since: "2024-11-01",
    },
  );
  const [usual] = await sql`
    select days, until = (now() at time zone 'America/Havana')::date + 1 as through_today from rollup.report_window(1)`;
  assert.equal({ ...usual }, { days: 30, through_today: true });
  const code = await sql`select rollup.report_window(1, '2024-11-05', '2024-11-05')`.catch(
    (error) => error.code,
  );
  assert.is(code, "RU003");
});

test("the outlook of a backfill is in account time", async () => {
  await addHistory(sql, {
    account: 2,
    until: "2026-02-12 04:30",
    events: 1,
    timezone: "America/New_York",
  });
  const [outlook] = await sql`select * from rollup.backfill_outlook(2)`;
  assert.equal(
    [
      outlook?.first_event,
      outlook?.last_event,
      outlook?.from_date,
      outlook?.to_date,
      outlook?.days,
      outlook?.events,
    ],
    ["2026-02-11 23:30:00", "2026-02-11 23:30:00", "2026-02-11", "2026-02-11", 1, "1"],
  );
  assert.is(outlook?.running_covers, false);
  const [none] = await sql`select * from rollup.backfill_outlook(2, '2030-01-01')`;
  assert.equal([none?.from_date, none?.to_date, none?.events], ["2030-01-01", "2030-01-01", "0"]);
});

async function alive(worker: string): Promise<boolean> {
  const [row] = await sql`
    select exists (select from rollup.live_workers() where worker_hash = hashtext(${worker})) as alive`;
  return row?.alive;
}

test("a worker is alive for as long as its session is, or until it takes another id", async () => {
  const session = connect({ url: databaseUrl });
  assert.is(await alive("worker a"), false);
  await session`select rollup.heartbeat('worker a')`;
  await session`select rollup.heartbeat('worker a')`;
  assert.is(await alive("worker a"), true);
  await session`select rollup.heartbeat('worker b')`;
  assert.equal([await alive("worker a"), await alive("worker b")], [false, true]);
  const [none] = await session`select rollup.heartbeat(null) as dead`;
  assert.equal([none?.dead, await alive("worker b")], ["0", false]);
  await session`select rollup.heartbeat('worker b')`;
  await session.end();
  for (let n = 0; n < 50 && (await alive("worker b")); n++)
    await new Promise((done) => setTimeout(done, 20));
  assert.is(await alive("worker b"), false);
});

test("jobs of a dead worker become free, those of a living one do not", async () => {
  const living = connect({ url: databaseUrl });
  await living`select rollup.heartbeat('living')`;
  for (let n = 0; n < 4; n++) await sql`select rollup_worker.add_job('backfill', '{"run_id": -1}')`;
  await sql`
    update rollup_worker._private_jobs set locked_at = now(), locked_by = case when id % 2 = 0 then 'living' else 'dead' end`;
  const [released] = await living`select rollup.heartbeat('living') as workers`;
  assert.is(released?.workers, "1");
  const locks = await sql`
    select locked_by, id % 2 as odd, count(*) > 0 as some from rollup_worker.jobs group by 1, 2 order by 2`;
  assert.equal(
    locks.map((row) => [row.locked_by, row.odd]),
    [
      ["living", "0"],
      [null, "1"],
    ],
  );
  await living.end();
});

test.run();
