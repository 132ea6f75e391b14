/** The day of an event: the bucket decides, in the trigger and in the backfill alike. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { database } from "../support/database.js";
import { differences } from "../support/oracle.js";
import { accountIn, copyAccount, everything, insert, stored } from "./support.js";

const sql = database();

/** UTC instant, zone, local date. */
const days: [string, string, string][] = [
  ["2026-02-12 04:00:00", "America/New_York", "2026-02-11"],
  ["2026-02-12 05:00:00", "America/New_York", "2026-02-12"],
  // Clocks go back over midnight: the day begins twice.
  ["2024-11-03 03:59:59", "America/Havana", "2024-11-02"],
  ["2024-11-03 04:30:00", "America/Havana", "2024-11-03"],
  ["2024-11-03 05:30:00", "America/Havana", "2024-11-03"],
  ["2024-10-27 00:30:00", "Atlantic/Azores", "2024-10-27"],
  ["2024-10-27 01:30:00", "Atlantic/Azores", "2024-10-27"],
  // Midnight is skipped.
  ["2024-04-25 21:59:59", "Africa/Cairo", "2024-04-25"],
  ["2024-04-25 22:00:00", "Africa/Cairo", "2024-04-26"],
  // A whole day is skipped.
  ["2011-12-30 09:59:59", "Pacific/Apia", "2011-12-29"],
  ["2011-12-30 10:00:00", "Pacific/Apia", "2011-12-31"],
  // Clocks change a minute past midnight.
  ["2010-11-07 02:30:30", "America/St_Johns", "2010-11-07"],
  ["2010-11-07 02:31:30", "America/St_Johns", "2010-11-06"],
  ["2026-01-01 00:00:00", "Asia/Kathmandu", "2026-01-01"],
  ["2025-12-31 18:15:00", "Asia/Kathmandu", "2026-01-01"],
  ["2026-01-01 10:00:00", "Pacific/Kiritimati", "2026-01-02"],
];

for (const [created_at, timezone, date] of days) {
  test(`${created_at}Z in ${timezone} is ${date}, for trigger and backfill`, async () => {
    const account = await accountIn(timezone);
    await insert(sql, account, { created_at });
    const line = `${date} account ${account} first_response 1 1 1`;
    assert.equal(await stored(account), [line]);
    await sql`delete from rollup.reporting_events_rollups where account_id = ${account}`;
    const [result] = await sql`select rollup.backfill_date(${account}, ${date}) as rows`;
    assert.is(result?.rows, "1");
    assert.equal(await stored(account), [line]);
  });
}

test("trigger and backfill agree on random instants in every zone", async () => {
  const zones = await sql<{ timezone: string; account: number }[]>`
    select name as timezone, (100000 + row_number() over (order by name))::int as account from rollup.timezones()`;
  await copyAccount(sql, await accountIn("UTC"), [...zones]);
  assert.ok(zones.length > 400);
  // Also around midnight, where the mistakes are.
  await sql`
    insert into public.reporting_events (name, value, account_id, conversation_id, created_at)
    select 'conversation_bot_handoff', 1, s.account_id, i % 4,
      case when i % 2 = 0 then timestamp '1980-01-01' + random() * interval '50 years'
      else date_trunc('day', timestamp '2024-01-01' + random() * interval '700 days') at time zone s.reporting_timezone at time zone 'UTC'
        + random() * interval '2 hours' - interval '1 hour'
      end
    from rollup.account_settings as s, generate_series(1, 30) as i
    where s.account_id > 100000`;
  for (let more = true; more; ) {
    const [folded] = await sql`select rollup.fold() as deltas`;
    more = folded?.deltas !== "0";
  }
  const wrong: string[] = [];
  for (const { timezone, account } of zones) {
    const before = await everything(account);
    await sql`select rollup.backfill(${account})`;
    if (before === "[null, null, null]" || (await everything(account)) !== before)
      wrong.push(timezone);
    if ((await differences(sql, account)).length > 0) wrong.push(timezone);
  }
  assert.equal(wrong, []);
});

test.run();
