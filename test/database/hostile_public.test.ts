/**
 * Somebody may create in schema public: operators and functions that fit our calls better than the server's own would run with the
 * rights of whoever runs a command, migrate as a superuser among them.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { migrate } from "../../src/database/migrate.js";
import { uninstall } from "../../src/database/uninstall.js";
import { databaseWithHistory } from "../command_line/commands/support.js";
import { cli } from "../support/cli.js";
import type { TestDatabase } from "../support/database.js";
import { assertWorks } from "../support/field.js";

const hostile = suite("a hostile public");
const databases: TestDatabase[] = [];

hostile.after.each(async () => {
  for (const database of databases.splice(0)) await database.drop();
});

/** Types as our own statements compare and pass them; with the exact types, these win over the server's. */
const types = [
  "text",
  "varchar",
  "name",
  "int",
  "bigint",
  "oid",
  '"char"',
  "date",
  "timestamptz",
  "regclass",
  "boolean",
];
const comparisons = ["=", "<>", "<", ">", "<=", ">=", "||", "+", "-", "@>"];
const functions = {
  format: ["text, text", "text, name", "text, text, text"],
  to_regclass: ["varchar"],
  now: [""],
  count: ["text"],
  pg_try_advisory_lock: ["int", "text"],
  to_char: ["timestamp, varchar"],
  current_setting: ["varchar"],
  set_config: ["varchar, varchar, boolean"],
  jsonb_build_object: ["text, int"],
};

/** What each of them does: leaves a trace of who called it, outside of the transaction that did. */
function traps(): string {
  const statements: string[] = ["create sequence public.calls"];
  for (const left of types) {
    for (const right of types) {
      const name = `${left}_${right}`.replace(/\W/g, "");
      statements.push(
        `create function public.op_${name}(${left}, ${right}) returns boolean language plpgsql as
           $$ begin perform pg_catalog.nextval('public.calls'); return true; end $$`,
      );
      for (const operator of comparisons) {
        statements.push(
          `create operator public.${operator} (leftarg = ${left}, rightarg = ${right}, function = public.op_${name})`,
        );
      }
    }
  }
  for (const [name, signatures] of Object.entries(functions)) {
    for (const signature of signatures) {
      statements.push(
        `create function public.${name}(${signature}) returns text language plpgsql as
           $$ begin perform pg_catalog.nextval('public.calls'); return ''; end $$`,
      );
    }
  }
  return statements.join(";\n");
}

hostile("no command of ours calls anything there", async () => {
  const database = await databaseWithHistory({ timezone: "Asia/Kolkata", events: 300 });
  databases.push(database);
  const { sql, url, name } = database;
  await sql.unsafe(traps());
  await sql.unsafe(`alter database ${name} set search_path = public, pg_catalog`);
  const calls = async () => {
    const [row] = await sql`select is_called from public.calls`;
    return row?.is_called;
  };
  await migrate(url, { current: true });
  assert.is(await calls(), false, "migrate");
  await assertWorks(url);
  assert.is(await calls(), false, "worker and backfill");
  const commands = [
    ["status"],
    ["status", "1"],
    ["report", "1", "--metric", "resolutions_count", "--since", "2026-01-01"],
    ["report", "1", "--agent"],
    ["verify", "1", "--repair"],
    ["timezone", "1", "Europe/Paris", "--yes"],
    ["flag", "1", "on"],
    ["backfill", "1", "--yes"],
  ];
  for (const command of commands) {
    const { code, stderr } = await cli(command, { env: { DATABASE_URL: url } });
    assert.is(code, 0, stderr);
    assert.is(await calls(), false, command.join(" "));
  }
  await uninstall(url);
  assert.is(await calls(), false, "uninstall");
  // The traps work: a session of somebody else's falls into them.
  const victim = await sql.reserve();
  await victim.unsafe("set search_path = public, pg_catalog; select 1::int = 1::int");
  victim.release();
  assert.is(await calls(), true);
});

hostile.run();
