/** Clocks of a zone that change, also for the past, as new time zone data has them. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { database } from "../support/database.js";
import { accountIn, assertExactEverywhere, cleanDays, insert } from "./support.js";

const zoneRules = suite("rules of time zones");
const sql = database();

async function rules(zone: string): Promise<string | null> {
  const [row] = await sql<{ rules: string | null }[]>`select rollup.zone_rules(${zone}) as rules`;
  return row?.rules ?? null;
}

async function watch(): Promise<number> {
  const [row] = await sql<{ accounts: number }[]>`
    select rollup.watch_zone_rules()::int as accounts`;
  return row?.accounts ?? -1;
}

zoneRules("aliases have the same, zones that ever differed by an hour have not", async () => {
  assert.is(await rules("Asia/Calcutta"), await rules("Asia/Kolkata"));
  assert.is(await rules("Nowhere/At_All"), null);
  // Apart from each other for some months of 1970 to 2040 only.
  for (const [one, other] of [
    ["America/New_York", "America/Detroit"],
    ["Europe/Berlin", "Europe/Vienna"],
    ["Asia/Almaty", "Asia/Qyzylorda"],
  ] as const) {
    assert.is.not(await rules(one), await rules(other));
  }
});

zoneRules("an account whose zone has other clocks now begins anew, the others do not", async () => {
  const [moved, same] = [await accountIn("Asia/Almaty"), await accountIn("Asia/Kolkata")];
  for (const account of [moved, same]) await insert(sql, account, {});
  assert.is(await watch(), 0);
  // As if its rollups had been made by other clocks.
  await sql`update rollup.account_coverage set zone_rules = 'of 2023' where account_id = ${moved}`;
  assert.is(await watch(), 1);
  assert.is(await cleanDays(moved), "{}");
  assert.is(await cleanDays(same), "{(,)}");
  const runs =
    await sql`select from rollup.backfill_runs where account_id = ${moved} and state = 'pending'`;
  assert.is(runs.length, 1);
  assert.is(await watch(), 0);
  await sql`select rollup.backfill(${moved})`;
  await assertExactEverywhere(moved);
  assert.is(await watch(), 0);
});

zoneRules("a zone that the server has lost is left to its reads", async () => {
  const account = await accountIn("Asia/Tokyo");
  await sql`update rollup.account_settings set reporting_timezone = 'Asia/Lost' where account_id = ${account}`;
  assert.is(await watch(), 0);
  await sql`update rollup.account_settings set reporting_timezone = 'Asia/Tokyo' where account_id = ${account}`;
});

zoneRules.run();
