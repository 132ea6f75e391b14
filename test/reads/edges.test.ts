/** Days of other lengths, the ends of the calendar, values and moments that few expect; expected answers written out. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { database } from "../support/database.js";
import {
  groupings,
  insertEvents,
  planOf,
  question,
  readerAccount,
  wrongAnswers,
} from "./support.js";

const sql = database();

async function series(
  account: number,
  zone: string,
  since: string,
  until: string,
  groupBy = "day",
): Promise<string[]> {
  const rows = await sql<{ line: string }[]>`
    select concat_ws(' ', to_char(period_start at time zone ${zone}, 'YYYY-MM-DD HH24:MI'), count) as line
    from rollup.timeseries(${account}, 'resolutions_count', ${since}, ${until}, ${groupBy})`;
  return rows.map(({ line }) => line);
}

/** Every kind of metric, by every grouping. */
async function assertAll(
  account: number,
  zone: string,
  since: string,
  until: string,
  by: readonly string[] = groupings,
) {
  for (const metric of ["resolutions_count", "avg_resolution_time", "bot_handoffs_count"]) {
    for (const groupBy of by) {
      const asked = { ...question, account, metric, since, until, groupBy, zone };
      const label = `${metric} by ${groupBy} in ${zone}`;
      assert.equal(await wrongAnswers(sql, "timeseries", asked), [], label);
      assert.equal((await planOf(sql, asked)).faults, [], label);
    }
    const asked = { ...question, account, metric, since, until, zone };
    assert.equal(await wrongAnswers(sql, "aggregate", asked), [], metric);
  }
}

test("a 25-hour day has 25 hours, a 23-hour day 23; each is one day", async () => {
  const zone = "America/New_York";
  const account = await readerAccount(zone);
  await insertEvents(
    sql,
    account,
    { created_at: "2025-11-02 04:00" },
    // 01:30 twice.
    { created_at: "2025-11-02 05:30" },
    { created_at: "2025-11-02 06:30" },
    { created_at: "2025-11-03 04:59:59.999999" },
    { created_at: "2026-03-08 06:59" },
    { created_at: "2026-03-08 07:00" },
  );
  const autumn = await series(account, zone, "2025-11-02 04:00Z", "2025-11-03 05:00Z", "hour");
  assert.is(autumn.length, 25);
  assert.equal(
    autumn.filter((line) => line.endsWith("1")),
    ["2025-11-02 00:00 1", "2025-11-02 01:00 1", "2025-11-02 01:00 1", "2025-11-02 23:00 1"],
  );
  assert.equal(await series(account, zone, "2025-11-02 04:00Z", "2025-11-03 05:00Z"), [
    "2025-11-02 00:00 4",
  ]);
  const spring = await series(account, zone, "2026-03-08 05:00Z", "2026-03-09 04:00Z", "hour");
  assert.is(spring.length, 23);
  assert.equal(
    spring.filter((line) => line.endsWith("1")),
    ["2026-03-08 01:00 1", "2026-03-08 03:00 1"],
  );
  await assertAll(account, zone, "2025-11-02 04:00Z", "2025-11-03 05:00Z");
  await assertAll(account, zone, "2026-03-08 05:00Z", "2026-03-09 04:00Z");
});

test("the day that Apia skipped has no row", async () => {
  const zone = "Pacific/Apia";
  const account = await readerAccount(zone);
  await insertEvents(
    sql,
    account,
    { created_at: "2011-12-30 09:59:59" },
    { created_at: "2011-12-30 10:00" },
  );
  assert.equal(await series(account, zone, "2011-12-29 10:00Z", "2012-01-01 10:00Z"), [
    "2011-12-29 00:00 1",
    "2011-12-31 00:00 1",
    "2012-01-01 00:00 0",
  ]);
  await assertAll(account, zone, "2011-12-29 10:00Z", "2012-01-01 10:00Z");
});

test("a zone that crossed the date line and came back, in one range", async () => {
  const zone = "Pacific/Kwajalein";
  const account = await readerAccount(zone);
  await insertEvents(sql, account, { created_at: "1993-08-21 11:00" });
  const days = await series(account, zone, "1960-01-01 00:00Z", "2000-01-01 00:00Z");
  assert.equal(
    days.filter((line) => /^1993-08-2[012]/.test(line)).map((line) => line.slice(0, 10)),
    ["1993-08-20", "1993-08-22"],
  );
  await assertAll(account, zone, "1969-09-29 00:00Z", "1969-10-02 00:00Z");
});

test("the day that Juneau had twice", async () => {
  const zone = "America/Juneau";
  const account = await readerAccount(zone);
  await insertEvents(
    sql,
    account,
    { created_at: "1867-10-18 20:00" },
    { created_at: "1867-10-19 00:40" },
  );
  for (const [since, until] of [
    ["1867-10-18 20:00Z", "1867-10-19 06:00Z"],
    ["1867-10-18 02:00Z", "1867-10-19 03:00Z"],
    ["1867-10-15 00:00Z", "1867-10-25 00:00Z"],
  ] as const) {
    await assertAll(account, zone, since, until, ["day", "week", "month", "year"]);
  }
});

test("hours that a clock change left a quarter of", async () => {
  const zone = "Africa/Monrovia";
  const account = await readerAccount(zone);
  await insertEvents(
    sql,
    account,
    { created_at: "1972-01-07 00:44:29" },
    { created_at: "1972-01-07 00:44:30" },
    { created_at: "1972-01-07 00:59:59" },
  );
  await assertAll(account, zone, "1972-01-06 20:10:11Z", "1972-01-07 05:00Z");
});

test("half an hour of daylight saving time", async () => {
  const zone = "Australia/Lord_Howe";
  const account = await readerAccount(zone);
  for (const at of ["14:15", "14:45", "15:15", "15:45"]) {
    await insertEvents(
      sql,
      account,
      { created_at: `2024-04-06 ${at}` },
      { created_at: `2024-10-05 ${at}` },
    );
  }
  await assertAll(account, zone, "2024-04-06 12:00Z", "2024-04-07 12:00Z");
  await assertAll(account, zone, "2024-10-05 12:00Z", "2024-10-06 12:00Z");
});

test("from a microsecond to a second, and nothing", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(
    sql,
    account,
    { created_at: "2026-02-11 23:59:59.999999" },
    { created_at: "2026-02-12 00:00:00" },
  );
  assert.equal(await series(account, "UTC", "2026-02-11 23:59:59.999999Z", "2026-02-12 00:00Z"), [
    "2026-02-11 00:00 1",
  ]);
  assert.equal(await series(account, "UTC", "2026-02-12 00:00Z", "2026-02-12 00:00:00.000001Z"), [
    "2026-02-12 00:00 1",
  ]);
  for (const groupBy of groupings) {
    assert.equal(await series(account, "UTC", "2026-02-12", "2026-02-12", groupBy), []);
  }
  await assertAll(account, "UTC", "2026-02-12", "2026-02-12");
  await assertAll(account, "UTC", "2026-02-11 23:59:59.5Z", "2026-02-12 00:00:00.5Z");
});

test("leap days, year ends, weeks from Sunday", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(
    sql,
    account,
    { created_at: "2024-02-29 12:00" },
    { created_at: "2023-12-31 12:00" },
    { created_at: "2024-01-01 12:00" },
  );
  assert.equal(await series(account, "UTC", "2023-12-30", "2024-01-08", "week"), [
    "2023-12-24 00:00 0",
    "2023-12-31 00:00 2",
    "2024-01-07 00:00 0",
  ]);
  assert.equal(await series(account, "UTC", "2023-12-30", "2024-03-02", "month"), [
    "2023-12-01 00:00 1",
    "2024-01-01 00:00 1",
    "2024-02-01 00:00 1",
    "2024-03-01 00:00 0",
  ]);
  assert.equal(await series(account, "UTC", "2023-12-30", "2024-04-01", "quarter"), [
    "2023-10-01 00:00 1",
    "2024-01-01 00:00 2",
  ]);
  assert.equal(await series(account, "UTC", "2023-12-30", "2025-01-01", "year"), [
    "2023-01-01 00:00 1",
    "2024-01-01 00:00 2",
  ]);
});

test("from year 1 to year 9999, events at both ends and at infinity", async () => {
  for (const zone of ["America/New_York", "Asia/Kathmandu"]) {
    const account = await readerAccount(zone);
    await insertEvents(
      sql,
      account,
      { created_at: "0001-01-01 12:00" },
      { created_at: "9999-12-30 12:00" },
      { created_at: "infinity" },
      { created_at: "-infinity" },
      { created_at: "294276-12-31 23:00" },
      { created_at: "4713-01-01 00:00 BC" },
    );
    await sql`select rollup.backfill(${account})`;
    const since = "0001-01-01 00:00Z";
    const until = "9999-12-31 00:00Z";
    const years = await series(account, zone, since, until, "year");
    assert.is(years.length, zone === "Asia/Kathmandu" ? 9999 : 10_000);
    const asked = { ...question, account, since, until, zone };
    assert.equal(await wrongAnswers(sql, "aggregate", asked), []);
    assert.equal(await wrongAnswers(sql, "summary", asked), []);
    assert.equal((await planOf(sql, asked)).faults, []);
    const widest = { ...asked, since: "4713-03-01 00:00Z BC", until: "294275-01-01 00:00Z" };
    const [all] = await sql`
      select count from rollup.aggregate(${account}, 'resolutions_count', ${widest.since}, ${widest.until})`;
    assert.equal(all, { count: "2" });
  }
});

test("averages are over the events that have the value; counts are of all", async () => {
  const account = await readerAccount("UTC");
  const rows = (value: number | string | null, business: number | null, created_at: string) => ({
    value,
    value_in_business_hours: business,
    created_at,
    user_id: 7,
  });
  await insertEvents(
    sql,
    account,
    rows(100, null, "2026-02-01 12:00"),
    rows(null, 7, "2026-02-01 13:00"),
    rows("NaN", 8, "2026-02-01 14:00"),
    rows(null, null, "2026-02-02 12:00"),
    rows("Infinity", null, "2026-02-02 13:00"),
    rows(0, 0, "2026-02-04 12:00"),
  );
  const read = async (business: boolean) => {
    const days = await sql<{ value: string | null; count: string }[]>`
      select value, count from rollup.timeseries(
        ${account}, 'avg_resolution_time', '2026-02-01', '2026-02-05', p_business_hours => ${business})`;
    const [total] = await sql`
      select value, count from rollup.aggregate(
        ${account}, 'avg_resolution_time', '2026-02-01', '2026-02-03', p_business_hours => ${business})`;
    const [agent] = await sql`
      select resolved_conversations_count as count, avg_resolution_time as value
      from rollup.summary(${account}, 'agent', '2026-02-02', '2026-02-03', ${business})`;
    return [
      ...days.map(({ value, count }) => `${value} ${count}`),
      `${total?.value} ${total?.count}`,
      `${agent?.value} ${agent?.count}`,
    ];
  };
  for (const flag of [true, false]) {
    await sql`select rollup.set_reporting_events_rollup(${account}, ${flag})`;
    assert.equal(await read(false), ["100 3", "null 2", "0 0", "0 1", "100 5", "null 2"]);
    assert.equal(await read(true), ["7.5 3", "null 2", "0 0", "0 1", "7.5 5", "null 2"]);
  }
});

test("an average as a double is the quotient of doubles, where the sum is one", async () => {
  const account = await readerAccount("UTC");
  await sql`
    insert into public.reporting_events (name, value, account_id, created_at)
    select 'reply_time', i * i * 0.375, ${account}, timestamp '2026-02-01' + (i % 28) * interval '1 day'
    from generate_series(1, 500) as i`;
  const [row] = await sql`
    select count(*)::int as wrong
    from rollup.timeseries(${account}, 'reply_time', '2026-02-01', '2026-03-01') as t
    join (
      select created_at, sum(value::numeric)::float8 / count(value)::float8 as value
      from public.reporting_events where account_id = ${account} group by 1
    ) as e on e.created_at = t.period_start at time zone 'UTC'
    where e.value <> t.value::float8`;
  assert.equal(row, { wrong: 0 });
});

test("at most 100,000 periods, refused before any work", async () => {
  const account = await readerAccount("America/New_York");
  for (const [groupBy, since, until, periods] of [
    ["hour", "2014-08-05 01:00Z", "2025-12-31 16:00Z", 99_999],
    ["day", "1826-03-20 00:00Z", "2100-01-01 00:00Z", 99_999],
    ["year", "4713-03-01 00:00Z BC", "95286-01-01 00:00Z", 99_997],
  ] as const) {
    const [row] = await sql`
      select count(*)::int from rollup.timeseries(${account}, 'resolutions_count', ${since}, ${until}, ${groupBy})`;
    assert.ok(Math.abs(row?.count - periods) < 3, `${groupBy} ${row?.count}`);
  }
  for (const [groupBy, since, until] of [
    ["hour", "1826-03-16 00:00Z", "2026-03-16 00:00Z"],
    ["day", "0001-03-16 00:00Z", "2100-01-01 00:00Z"],
    ["year", "4713-03-01 00:00Z BC", "294275-01-01 00:00Z"],
  ] as const) {
    const started = performance.now();
    try {
      await sql`select * from rollup.timeseries(${account}, 'resolutions_count', ${since}, ${until}, ${groupBy})`;
      assert.unreachable();
    } catch (error) {
      const { code, message } = error as { code: string; message: string };
      assert.is(code, "RU003", message);
      assert.match(message, "100000");
    }
    assert.ok(performance.now() - started < 1000);
  }
});

test("values that are no number, or too large to add up as one", async () => {
  const account = await readerAccount("UTC");
  const created_at = "2026-02-11 12:00";
  await insertEvents(
    sql,
    account,
    { created_at, value: "NaN", value_in_business_hours: null },
    { created_at, value: "Infinity" },
    { created_at, value: 9.1e12 },
    { created_at: "2026-02-12 12:00", value: 9.1e12, value_in_business_hours: 0.1 },
    { created_at: "2026-02-12 12:00", value: 1e13 },
    { created_at: "2026-02-13 12:00", value: 0.000001 },
    { created_at: "2026-02-13 12:00", value: -9.1e12 },
  );
  for (const until of ["2026-02-14", "2026-02-13 12:00:00.1Z"]) {
    const asked = {
      ...question,
      account,
      metric: "avg_resolution_time",
      since: "2026-02-11",
      until,
    };
    for (const read of ["timeseries", "aggregate", "summary"] as const) {
      for (const businessHours of [true, false, null]) {
        for (const groupBy of ["day", "month"]) {
          assert.equal(await wrongAnswers(sql, read, { ...asked, businessHours, groupBy }), []);
        }
      }
    }
  }
});

test.run();
