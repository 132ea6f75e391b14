/** A server with settings of its own, and without TLS. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { open } from "../../src/database/connection.js";
import { databaseWithHistory } from "../command_line/commands/support.js";
import { cli } from "../support/cli.js";
import { onServer, type TestDatabase } from "../support/database.js";
import { assertWorks, failure } from "../support/field.js";

const plain = suite("settings of others");
const databases: TestDatabase[] = [];

async function prepared(): Promise<TestDatabase> {
  const database = await databaseWithHistory({ timezone: "Asia/Kolkata", events: 300 });
  databases.push(database);
  return database;
}

async function dropAll(): Promise<void> {
  for (const database of databases.splice(0)) await database.drop();
}

plain.after.each(dropAll);

for (const query of ["", "?sslmode=prefer", "?sslmode=allow", "?sslmode=disable"]) {
  plain(`a server without TLS: ${query || "nothing said"}`, async () => {
    await assertWorks(Object.assign(new URL((await prepared()).url), { search: query }).href);
  });
}

plain("a server without TLS, and TLS required", async () => {
  const { url } = await prepared();
  const error = await failure(open(url.replace("sslmode=disable", "sslmode=require")));
  assert.match(error.message, /no secure connection .*does not support SSL/);
});

const hostile: Record<string, string> = {
  DateStyle: "German",
  TimeZone: "Asia/Kolkata",
  IntervalStyle: "sql_standard",
  bytea_output: "escape",
  extra_float_digits: "-15",
  search_path: "nowhere",
  default_transaction_isolation: "serializable",
  default_transaction_deferrable: "on",
  statement_timeout: "40ms",
  lock_timeout: "1ms",
  idle_in_transaction_session_timeout: "20ms",
  transform_null_equals: "on",
  quote_all_identifiers: "on",
  "plpgsql.extra_errors": "all",
};

plain("what the database sets for its own clients changes nothing for ours", async () => {
  const { sql, url, name } = await prepared();
  const asked = [
    [
      "report",
      "1",
      "--metric",
      "avg_resolution_time",
      "--since",
      "2025-12-01",
      "--until",
      "2026-03-10",
    ],
    [
      "report",
      "1",
      "--metric",
      "resolutions_count",
      "--since",
      "2026-01-01",
      "--until",
      "2026-02-01",
      "--group-by",
      "hour",
    ],
    ["verify", "1"],
  ];
  const answers = async () => {
    const told: unknown[] = [];
    for (const args of asked) {
      const { code, stdout, stderr } = await cli([...args, "--json"], {
        env: { DATABASE_URL: url },
      });
      assert.is(code, 0, stderr + stdout);
      told.push(JSON.parse(stdout));
    }
    return told;
  };
  await assertWorks(url);
  const before = await answers();
  await onServer(async (server) => {
    for (const [setting, value] of Object.entries(hostile)) {
      await server.unsafe(`alter database ${name} set ${setting} to '${value}'`);
    }
  });
  await sql.end();
  assert.equal(await answers(), before);
  await assertWorks(url);
  const { code, stderr } = await cli(["timezone", "1", "Europe/Paris", "--yes"], {
    env: { DATABASE_URL: url },
  });
  assert.is(code, 0, stderr);
});

plain.run();
