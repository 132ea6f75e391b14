/** What holds for every command: on a terminal, interrupted, against databases that are not as they should be. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cli, startCli, terminal } from "../../support/cli.js";
import { createDatabase, otherDatabase, type TestDatabase } from "../../support/database.js";
import { databaseWithHistory, eventually, runs } from "./support.js";

const every = suite("every command");
const databases: TestDatabase[] = [];

every.after.each(async () => {
  for (const database of databases.splice(0)) await database.drop();
});

/** Commands that need a migrated database, with arguments that would be right. */
const commands = [
  ["timezone", "1", "Asia/Tokyo", "--yes"],
  ["flag", "1", "on"],
  ["backfill", "1", "--yes"],
  ["worker"],
  ["status"],
  ["status", "1"],
  ["verify", "1"],
  ["compare", "1"],
  ["seal", "1", "--through", "2026-01-31"],
  ["report", "1", "--metric", "resolutions_count"],
];

function isCalm(text: string): void {
  assert.not.match(text, /\n {4}at |node:internal|secret/);
}

every("a database that is not migrated: 1, and the remedy", async () => {
  const database = await createDatabase({ empty: true });
  databases.push(database);
  for (const args of commands) {
    const { code, stderr } = await cli(args, { env: { DATABASE_URL: database.url } });
    assert.is(code, 1, args.join(" "));
    assert.match(
      stderr,
      /^error: The database is not, or not completely, migrated: /m,
      args.join(" "),
    );
    assert.match(stderr, "hint: Run `reporting-rollup migrate`.");
    isCalm(stderr);
  }
});

every("no server, a wrong password, no such database: 1, and the remedy", async () => {
  const database = await databaseWithHistory({ events: 1 });
  databases.push(database);
  const login = { user: "postgres", password: "secret" };
  const cases: [string, RegExp][] = [
    ["postgres://u:secret@127.0.0.1:1/db", /No PostgreSQL server answers.*\nhint: /],
    [otherDatabase(database.url, database.name, login), /refuses the password.*\nhint: /],
    [
      otherDatabase(database.url, "nowhere_at_all"),
      /There is no database nowhere_at_all.*\nhint: /,
    ],
  ];
  for (const [index, args] of [...commands, ["uninstall", "--yes"]].entries()) {
    const [url, message] = cases[index % cases.length] as [string, RegExp];
    const { code, stderr } = await cli(args, { env: { DATABASE_URL: url } });
    assert.is(code, 1, args.join(" "));
    assert.match(stderr, message, args.join(" "));
    isCalm(stderr);
  }
});

every("errors are a document too", async () => {
  const database = await databaseWithHistory({ events: 1 });
  databases.push(database);
  const env = { DATABASE_URL: database.url };
  for (const args of [
    ["verify", "99"],
    ["backfill", "1", "--yes"],
    ["report", "99", "--metric", "reply_time"],
  ]) {
    const { code, stdout } = await cli([...args, "--json"], { env });
    assert.is(code, 1, args.join(" "));
    const { error } = JSON.parse(stdout);
    assert.ok(error.message);
    assert.ok(error.hint);
  }
});

every("status, flag, verify on a terminal", async () => {
  const database = await databaseWithHistory({ timezone: "America/New_York" });
  databases.push(database);
  const env = { DATABASE_URL: database.url };
  await database.sql`select rollup.backfill(1)`;
  const status = terminal(["status"], { env });
  await status.until("America/New_York");
  assert.is(await status.ended, 0);
  const flag = terminal(["flag", "1", "on"], { env });
  await flag.until("use rollups wherever its days are covered");
  assert.is(await flag.ended, 0);
  const verify = terminal(["verify", "1"], { env });
  await verify.until("Exact: the rollups of all days equal");
  assert.is(await verify.ended, 0);
});

every("the worker on a terminal: Ctrl-C ends it when its jobs are done", async () => {
  const database = await databaseWithHistory({ timezone: "America/New_York" });
  databases.push(database);
  const person = terminal(["worker"], { env: { DATABASE_URL: database.url } });
  await person.until("worker started");
  await eventually("the run is done", async () => (await runs(database.sql))[0]?.state === "done");
  person.press("ctrl-c");
  await person.until("worker stopped");
  assert.is(await person.ended, 0);
  isCalm(person.output());
});

every("the worker goes on when nobody reads its log any more", async () => {
  const database = await databaseWithHistory({ timezone: "America/New_York" });
  databases.push(database);
  const running = startCli(["worker"], { env: { DATABASE_URL: database.url } });
  running.closeStdout();
  await eventually("the run is done", async () => (await runs(database.sql))[0]?.state === "done");
  running.signal("SIGTERM");
  const { code, stderr } = await running.result;
  assert.is(code, 0);
  assert.is(stderr, "");
});

every("the worker logs for programs, and refuses nonsense", async () => {
  const database = await databaseWithHistory({ timezone: "America/New_York" });
  databases.push(database);
  const running = startCli(["worker", "--json", "--concurrency", "1"], {
    env: { DATABASE_URL: database.url },
  });
  await running.until("backfill rebuilt");
  running.signal("SIGINT");
  const { code, stdout } = await running.result;
  assert.is(code, 0);
  const lines = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const chunk = lines.find(({ message }) => message === "backfill rebuilt");
  assert.equal(
    [chunk.level, chunk.account_id, chunk.run_id, chunk.events],
    ["info", 1, "1", "2000"],
  );
  for (const wrong of ["0", "65", "x"])
    assert.is((await cli(["worker", "--concurrency", wrong])).code, 2);
});

every.run();
