import { test } from "uvu";
import * as assert from "uvu/assert";
import { cli } from "../../support/cli.js";
import { database } from "../../support/database.js";
import { addHistory } from "./support.js";

const sql = database();

interface Fates {
  accounts: { account_id: number; result?: Record<string, unknown>; error?: { message: string } }[];
}

async function fates(args: string[], code: number): Promise<Fates["accounts"]> {
  const ended = await cli([...args, "--json"]);
  assert.is(ended.code, code, ended.stderr);
  return (JSON.parse(ended.stdout) as Fates).accounts;
}

test("a zone for several accounts; one that nobody knows does not stop the rest", async () => {
  for (const account of [1, 2, 3]) await addHistory(sql, { account });
  const { code, stdout, stderr } = await cli(["timezone", "1", "99", "2", "Asia/Kolkata", "--yes"]);
  assert.is(code, 1);
  assert.match(stdout, "account 1 counts its days in Asia/Kolkata");
  assert.match(stdout, "account 2 counts its days in Asia/Kolkata");
  assert.match(stdout, /1 of 3 accounts failed:\n {2}account 99: there is no account 99\n/);
  assert.match(stderr, "Account 99, 2 of 3");
  const zones =
    await sql`select account_id from rollup.account_settings where reporting_timezone = 'Asia/Kolkata' order by 1`;
  assert.equal(
    zones.map(({ account_id }) => account_id),
    [1, 2],
  );
});

test("a zone for several accounts is asked for once, and needs --yes without a terminal", async () => {
  const { code, stderr } = await cli(["timezone", "1,2", "Asia/Tokyo"]);
  assert.is(code, 2);
  assert.match(stderr, "Pass --yes");
});

test("a backfill of several accounts says what it would do, does it, and lists those that it cannot do", async () => {
  const planned = await fates(["backfill", "1", "2", "3", "--dry-run"], 1);
  assert.equal(
    planned.map(({ account_id }) => account_id),
    [1, 2, 3],
  );
  assert.match(planned[2]?.error?.message ?? "", "account 3 has no reporting time zone");
  const done = await fates(["backfill", "1", "2", "3", "--yes"], 1);
  const states = new Map(done.map(({ account_id, result }) => [account_id, result?.state]));
  assert.equal([...states].sort(), [
    [1, "done"],
    [2, "done"],
    [3, undefined],
  ]);
  const covered =
    await sql`select account_id from rollup.account_coverage where covered = '{(,)}' order by 1`;
  assert.equal(
    covered.map(({ account_id }) => account_id),
    [1, 2],
  );
});

test("--all: the accounts with a time zone", async () => {
  const { code, stdout } = await cli(["backfill", "--all", "--yes"]);
  assert.is(code, 0);
  assert.match(stdout, /Done: 2 accounts, [\d,]+ events read\./);
  assert.match((await cli(["backfill", "--all", "--yes", "--no-wait"])).stdout, "2 runs queued");
});

test("verify of several accounts: the exit code says that one differs, the others are seen", async () => {
  await sql`update rollup.reporting_events_rollups set count = count + 1 where account_id = 1`;
  const found = await fates(["verify", "--all"], 1);
  const differences = found.map(({ account_id, result }) => [
    account_id,
    (result?.differences as unknown[] | undefined)?.length !== 0,
  ]);
  assert.equal(differences, [
    [1, true],
    [2, false],
  ]);
  await fates(["verify", "1", "2", "--repair"], 0);
  await fates(["verify", "2", "1"], 0);
});

test("the flag of several accounts", async () => {
  const on = await fates(["flag", "--all", "on"], 0);
  assert.equal(
    on.map(({ account_id, result }) => [account_id, result?.reporting_events_rollup]),
    [
      [1, true],
      [2, true],
    ],
  );
  assert.is((await cli(["flag", "1", "2", "off"])).code, 0);
});

test("what cannot be meant is exit code 2", async () => {
  for (const args of [
    ["verify"],
    ["verify", "1", "x"],
    ["verify", "0"],
    ["verify", "--all", "1"],
    ["backfill"],
    ["backfill", "1", "2", "3000000000"],
    ["flag", "--all"],
    ["flag", "on"],
    ["timezone", "Asia/Tokyo", "--yes"],
    ["timezone", "--all", "1", "Asia/Tokyo", "--yes"],
  ]) {
    assert.is((await cli(args)).code, 2, args.join(" "));
  }
});

test.run();
