import { test } from "uvu";
import * as assert from "uvu/assert";
import { cli, startCli } from "../../support/cli.js";
import { connect, database, databaseUrl } from "../../support/database.js";
import { addHistory, eventually } from "./support.js";

const sql = database();

test("seal: the days through a date, after they were compared", async () => {
  await addHistory(sql, { timezone: "America/New_York" });
  await sql`select rollup.backfill(1)`;
  const { code, stdout } = await cli(["seal", "1", "--through", "2026-01-31"]);
  assert.is(code, 0);
  assert.match(
    stdout,
    /Done: the days of account 1 through 2026-01-31 are sealed, [\d,]+ events? compared\./,
  );
  const again = await cli(["seal", "1", "--through", "2026-02-10", "--json"]);
  assert.equal(JSON.parse(again.stdout), {
    account_id: 1,
    sealed_through: "2026-02-10",
    interrupted: false,
  });
  const [row] = await sql`select sealed_through from rollup.account_status where account_id = 1`;
  assert.is(row?.sealed_through, "2026-02-10");
  assert.match((await cli(["status", "1"])).stdout, /sealed through +2026-02-10/);
});

test("what cannot be sealed: a message with the remedy", async () => {
  const cases: [args: string[], exit: number, message: RegExp][] = [
    [["1", "--through", "2026-01-01"], 1, /sealed through 2026-02-10 already.*\nhint: .*unseal/],
    [["1", "--through", "2199-01-01"], 1, /is not over in America\/New_York\nhint: /],
    [["99", "--through", "2026-01-01"], 1, /there is no account 99/],
    [["1"], 2, /required option '--through/],
    [["1", "--through", "yesterday"], 2, /is a date from/],
  ];
  for (const [args, exit, message] of cases) {
    const { code, stderr } = await cli(["seal", ...args]);
    assert.is(code, exit, args.join(" "));
    assert.match(stderr, message);
  }
});

test("days that differ are not sealed", async () => {
  await sql`update rollup.reporting_events_rollups set count = count + 1 where account_id = 1 and date = '2026-02-20'`;
  const { code, stderr } = await cli(["seal", "1", "--through", "2026-02-25"]);
  assert.is(code, 1);
  assert.match(
    stderr,
    /the rollups of 2026-02-20 differ from the raw events\nhint: .*rollup\.repair/,
  );
});

test("an interrupted verification says what it had seen", async () => {
  const other = connect({ url: databaseUrl });
  const held = await other.reserve();
  await held`begin`;
  await held`lock table public.reporting_events in access exclusive mode`;
  const verification = startCli(["verify", "1"]);
  await eventually("the verification waits", async () => {
    const [row] = await sql<{ waits: boolean }[]>`
      select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like '%rollup.%') as waits`;
    return row?.waits === true;
  });
  verification.signal("SIGINT");
  await held`rollback`;
  held.release();
  await other.end();
  const { code, stdout } = await verification.result;
  assert.is(code, 130);
  assert.match(stdout, /Interrupted after [\d,]+ events? of [\d,]+ events?/);
});

test.run();
