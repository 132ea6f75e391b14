import { test } from "uvu";
import * as assert from "uvu/assert";
import { cli } from "../../support/cli.js";
import { connect, database, databaseUrl } from "../../support/database.js";
import { addHistory } from "./support.js";

const sql = database();

test("status without accounts says how to begin", async () => {
  const { code, stdout } = await cli(["status"]);
  assert.is(code, 0);
  assert.match(stdout, "No account has a time zone yet");
  assert.equal(JSON.parse((await cli(["status", "--json"])).stdout), {
    accounts: [],
    warnings: [],
  });
});

test("status of all accounts, and of one", async () => {
  await addHistory(sql, { timezone: "America/New_York" });
  await addHistory(sql, { account: 2, timezone: "Asia/Kolkata" });
  await addHistory(sql, { account: 3, events: 4 });
  await sql`select rollup.backfill(1)`;
  const { stdout } = await cli(["status"]);
  assert.match(
    stdout,
    /^account +time zone +reads +covered +dirty days +pending +backfill +sealed through +verified\n/,
  );
  assert.match(stdout, /\n +1 +America\/New_York +raw +100 % +0 +0 +– +– +–\n/);
  assert.match(stdout, /\n +2 +Asia\/Kolkata +raw +(0 %|–) +0 +0 +2 +– +–\n/);
  const one = await cli(["status", "1"]);
  assert.match(one.stdout, /time zone +America\/New_York/);
  assert.match(
    one.stdout,
    /covered +100 % of its history {2}?\{\(,\)\}|covered +100 % of its history \{\(,\)\}/,
  );
  assert.match(one.stdout, /\n +1 +20.* +all +done /);
  const { account, backfill_runs } = JSON.parse((await cli(["status", "2", "--json"])).stdout);
  assert.is(account.account_id, 2);
  assert.is(account.covered, "{}");
  assert.is(backfill_runs[0].state, "pending");
  assert.match((await cli(["status", "3"])).stdout, "No time zone, so no rollups");
});

test("status warns when no worker takes jobs, and of large backlogs", async () => {
  const alone = await cli(["status"]);
  assert.match(alone.stdout, "! No worker takes jobs, and 1 backfill waits for one.");
  assert.not.match(alone.stdout, "pending changes");
  const worker = connect({ url: databaseUrl });
  await worker`select rollup.heartbeat('a worker')`;
  const deltas = async (count: number) => {
    await sql`
      insert into rollup.deltas (account_id, generation, date, event_name, count, sum_value, sum_value_business_hours, from_delete)
      select 1, generation, '2026-01-05', 'reply_time', 0, 0, 0, false
      from rollup.account_settings, generate_series(1, ${count}) where account_id = 1`;
    return JSON.parse((await cli(["status", "--json"])).stdout).warnings;
  };
  assert.equal(await deltas(100_000), []);
  assert.equal(await deltas(1), [
    "Account 1 has more than 100,000 pending changes: until a worker has folded them its reads are slower.",
  ]);
  await worker.end();
  await sql`select rollup.fold(1)`;
});

test("flag says what reads do", async () => {
  const on = await cli(["flag", "1", "on"]);
  assert.is(on.code, 0);
  assert.match(on.stdout, "use rollups wherever its days are covered");
  const row = JSON.parse((await cli(["flag", "1", "off", "--json"])).stdout);
  assert.is(row.reporting_events_rollup, false);
  assert.match((await cli(["flag", "3", "on"])).stdout, "it has no time zone");
  assert.is((await cli(["flag", "1", "maybe"])).code, 2);
  assert.is((await cli(["flag", "1"])).code, 2);
  assert.is((await cli(["flag", "99", "on"])).code, 1);
});

test("verify says exact, shows differences, and repairs them", async () => {
  const exact = await cli(["verify", "1"]);
  assert.is(exact.code, 0);
  assert.match(exact.stdout, "Exact: the rollups of all days equal a recomputation");
  const none = await cli(["verify", "2"]);
  assert.is(none.code, 0);
  assert.match(none.stdout, "Nothing to verify: no day is covered");
  await sql`
    update rollup.reporting_events_rollups set count = count + 1
    where account_id = 1 and dimension_type = 'account' and metric = 'resolutions_count' and date = '2026-01-05'`;
  const differing = await cli(["verify", "1"]);
  assert.is(differing.code, 1);
  assert.match(differing.stdout, /1 difference to the raw events:/);
  assert.match(differing.stdout, /rollup +2026-01-05 +account 1 +resolutions_count +6 +7/);
  assert.match(differing.stdout, "verify 1 --repair");
  const document = JSON.parse((await cli(["verify", "1", "--json"])).stdout);
  assert.equal(
    [document.differences[0].expected_count, document.differences[0].actual_count],
    ["6", "7"],
  );
  const repaired = await cli(["verify", "1", "--repair", "--json"]);
  assert.is(repaired.code, 0);
  assert.equal(JSON.parse(repaired.stdout), { differences: [], repaired: ["2026-01-05"] });
  assert.is((await cli(["verify", "1"])).code, 0);
});

test("verify of an unknown account, and of one without a zone", async () => {
  const unknown = await cli(["verify", "99"]);
  assert.is(unknown.code, 1);
  assert.match(unknown.stderr, /no account 99\nhint: /);
  const zoneless = await cli(["verify", "3"]);
  assert.is(zoneless.code, 1);
  assert.match(zoneless.stderr, /account 3 has no reporting time zone\nhint: /);
});

test("a half-migrated database: what is missing, and the remedy", async () => {
  await sql`drop function rollup.require_known_account(int)`;
  const { code, stderr } = await cli(["status", "1"]);
  assert.is(code, 1);
  assert.match(stderr, /not, or not completely, migrated: .*\nhint: .*reporting-rollup migrate/);
});

test.run();
