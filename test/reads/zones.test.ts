/** Reads in another zone than the account's: aliases, zones with the same clocks, and zones that the server does not know. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect, database } from "../support/database.js";
import { insertEvents, planOf, question, readerAccount, wrongAnswers } from "./support.js";

const sql = database();

async function code(call: string): Promise<{ code: string; text: string }> {
  try {
    await sql.unsafe(`select * from rollup.${call}`);
  } catch (error) {
    const { code, message, hint } = error as { code: string; message: string; hint?: string };
    return { code, text: `${message}\n${hint ?? ""}` };
  }
  return { code: "00000", text: "" };
}

test("an alias of the account's zone, and a zone whose clocks show the same, read from rollups", async () => {
  for (const [zone, other, since, until, same] of [
    ["Asia/Kolkata", "Asia/Calcutta", "2026-01-31 18:30Z", "2026-03-31 18:30Z", true],
    ["Asia/Calcutta", "asia/kolkata", "2026-01-31 18:30Z", "2026-03-31 18:30Z", true],
    ["UTC", "Etc/UTC", "2026-02-01 00:00Z", "2026-03-01 00:00Z", true],
    ["America/New_York", "US/Eastern", "2025-10-01 04:00Z", "2026-04-01 04:00Z", true],
    ["Europe/Berlin", "Europe/Paris", "2026-01-31 23:00Z", "2026-11-30 23:00Z", true],
    // Both change clocks on the same day, hours apart.
    ["Europe/Athens", "Asia/Beirut", "2025-12-31 22:00Z", "2026-12-31 22:00Z", false],
    ["Europe/Athens", "Asia/Beirut", "2025-12-31 22:00Z", "2026-02-28 22:00Z", true],
    ["America/New_York", "America/Bogota", "2025-11-10 05:00Z", "2026-02-28 05:00Z", true],
    ["America/New_York", "America/Bogota", "2025-10-10 05:00Z", "2026-02-28 05:00Z", false],
    // Longer than anybody compares.
    ["Asia/Kolkata", "Asia/Calcutta", "1700-01-01 00:00Z", "2026-01-01 00:00Z", false],
  ] as const) {
    const account = await readerAccount(zone);
    await insertEvents(
      sql,
      account,
      { created_at: "2026-02-11 18:29" },
      { created_at: "2026-02-11 18:30" },
      { created_at: "2026-02-11 23:30" },
    );
    const asked = {
      ...question,
      account,
      since,
      until,
      timezone: other,
      zone: other,
      groupBy: "month",
    };
    const label = `${zone} as ${other} from ${since} to ${until}`;
    assert.is((await planOf(sql, asked)).rollups, same, label);
    // Centuries take the recomputation too long.
    if (since < "1900") continue;
    for (const metric of ["resolutions_count", "avg_resolution_time", "bot_handoffs_count"]) {
      for (const groupBy of ["day", "month"]) {
        const one = { ...asked, metric, groupBy };
        assert.equal(await wrongAnswers(sql, "timeseries", one), [], label);
      }
    }
  }
});

test("whether two zones are the same, for all times", async () => {
  const rows = await sql<{ one: string; other: string; same: boolean }[]>`
    select p.one, p.other, rollup.same_timezone(p.one, p.other) as same
    from (values
      ('Asia/Kolkata', 'Asia/Calcutta'), ('UTC', 'Etc/UTC'), ('America/New_York', 'US/Eastern'), ('Europe/Berlin', 'Europe/Paris'),
      ('Europe/London', 'Europe/Dublin'), ('America/New_York', 'America/Bogota'), ('UTC', 'Africa/Abidjan')
    ) as p (one, other)`;
  assert.equal(
    rows.filter(({ same }) => same).map(({ one }) => one),
    ["Asia/Kolkata", "UTC", "America/New_York", "Europe/London", "UTC"],
  );
});

test("a zone is asked for without reading all of the server's zone files", async () => {
  const account = await readerAccount("America/New_York");
  const own = connect();
  await own`begin`;
  try {
    await own`
      create or replace function rollup.timezones() returns table (name text, utc_offset interval, is_dst boolean)
      language plpgsql stable as $$ begin raise 'all zone files are read'; end $$`;
    for (const zone of ["Europe/Oslo", "america/port-au-prince", "US/Eastern", "UTC"]) {
      await own`select rollup.aggregate(${account}, 'reply_time', '2026-02-01', '2026-03-01', p_timezone => ${zone})`;
    }
    await own`select rollup.find_timezone(z) from unnest(array['Europe/Berlin', 'America/New_York', 'UTC', 'cuba']) as z`;
    try {
      await own`select rollup.find_timezone('EST5EDT')`;
      assert.unreachable();
    } catch (error) {
      assert.match((error as Error).message, "all zone files are read");
    }
  } finally {
    await own.end();
  }
});

test("names that PostgreSQL takes for zones, but are none", async () => {
  const account = await readerAccount("UTC");
  for (const zone of [
    "FOO-5",
    "Foo/Bar-5",
    "posix/Europe/Berlin",
    "Europe/",
    "EDT",
    "Europe/Berlin5",
    "",
    "a/b",
    "Etc/GMT+99",
  ]) {
    const { code: sqlstate } = await code(
      `aggregate(${account}, 'reply_time', '2026-02-01', '2026-03-01', p_timezone => '${zone}')`,
    );
    assert.is(sqlstate, "RU001", zone);
  }
  for (const zone of [
    "Japan",
    "EST",
    "etc/gmt+5",
    "GMT0",
    "America/North_Dakota/New_Salem",
    "europe/berlin",
  ]) {
    const { code: sqlstate } = await code(
      `aggregate(${account}, 'reply_time', '2026-02-01', '2026-03-01', p_timezone => '${zone}')`,
    );
    assert.is(sqlstate, "00000", zone);
  }
});

test("a zone that the server no longer has: its account's reads say so, other accounts are as they were", async () => {
  const [lost, other] = [await readerAccount("UTC"), await readerAccount("UTC")];
  await insertEvents(sql, lost, { created_at: "2026-02-11 12:00" });
  await insertEvents(sql, other, { created_at: "2026-02-11 12:00" });
  await sql`update rollup.account_settings set reporting_timezone = 'Mars/Olympus' where account_id = ${lost}`;
  const month = "'2026-02-01', '2026-03-01'";
  for (const call of [
    `timeseries(${lost}, 'resolutions_count', ${month})`,
    `aggregate(${lost}, 'bot_handoffs_count', ${month})`,
    `summary(${lost}, 'agent', ${month})`,
    `read_plan(${lost}, ${month})`,
    `report_window(${lost})`,
  ]) {
    const { code: sqlstate, text } = await code(call);
    assert.is(sqlstate, "RU001", call);
    assert.match(text, "Mars/Olympus");
    assert.match(text, `set_reporting_timezone(${lost}`);
  }
  // In a zone that there is, all is raw, and right.
  const asked = { ...question, account: lost, timezone: "UTC" };
  assert.equal(await wrongAnswers(sql, "timeseries", asked), []);
  assert.not((await planOf(sql, asked)).rollups);
  assert.equal(await wrongAnswers(sql, "timeseries", { ...question, account: other }), []);
  const status = await sql`
    select account_id = ${lost} as lost, covered_share, problem from rollup.account_status
    where account_id in (${lost}, ${other}) order by 1`;
  assert.equal(
    [...status],
    [
      { lost: false, covered_share: "1.0000", problem: null },
      { lost: true, covered_share: null, problem: "this server does not know its time zone" },
    ],
  );
  const [days] =
    await sql`select count(*)::int from rollup.daily_rollups where account_id in (${lost}, ${other})`;
  assert.ok(days?.count > 0);
});

test.run();
