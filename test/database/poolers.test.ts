/** A pooler before the server. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { databaseWithHistory } from "../command_line/commands/support.js";
import { cli } from "../support/cli.js";
import { connect } from "../support/client.js";
import type { TestDatabase } from "../support/database.js";
import { assertWorks, have, startPooler } from "../support/field.js";

const databases: TestDatabase[] = [];

async function prepared(): Promise<TestDatabase> {
  const database = await databaseWithHistory({ timezone: "Asia/Kolkata", events: 300 });
  databases.push(database);
  return database;
}

async function dropAll(): Promise<void> {
  for (const database of databases.splice(0)) await database.drop();
}

const pooled = suite("poolers");
pooled.after.each(dropAll);

async function throughPooler(
  mode: "session" | "transaction",
  settings: string,
  work: (url: string, direct: string) => Promise<void>,
): Promise<void> {
  const { url } = await prepared();
  const pooler = await startPooler(url, mode, settings);
  try {
    await work(pooler.url(url), url);
  } finally {
    await pooler.stop();
  }
}

if (have("pgbouncer", "--version")) {
  pooled("everything works through one in session mode", () =>
    throughPooler("session", "", (url) => assertWorks(url)),
  );

  for (const settings of ["", "server_round_robin = 1", "default_pool_size = 1"]) {
    pooled(
      `in transaction mode reports work, and the rest says so: ${settings || "as it comes"}`,
      () =>
        throughPooler("transaction", settings, async (url) => {
          const env = { DATABASE_URL: url };
          const report = await cli(
            ["report", "1", "--metric", "resolutions_count", "--since", "2026-01-01"],
            { env },
          );
          assert.is(report.code, 0, report.stderr);
          assert.is((await cli(["status"], { env })).code, 0);
          assert.is((await cli(["flag", "1", "on"], { env })).code, 0);
          const commands = [["migrate"], ["worker"], ["backfill", "1", "--yes"]];
          // Where the second session never comes each takes ten seconds to say so.
          for (const command of settings.includes("size = 1") ? commands.slice(0, 1) : commands) {
            const { code, stderr } = await cli(command, { env });
            assert.is(code, 1, command.join(" "));
            assert.match(
              stderr,
              /needs sessions of its own, and a pooler in transaction mode gives none/,
            );
          }
        }),
    );
  }

  pooled("nothing of ours is left in the sessions that a pooler hands on", () =>
    throughPooler("transaction", "default_pool_size = 2", async (url, direct) => {
      const settingsNow = async (url: string) => {
        const sql = connect(url, { max: 1 });
        const rows = await sql`
          select name, setting from pg_settings
          where name ~ '(_timeout|path|style|zone|digits|output)$|^(standard|transform)' order by 1`;
        await sql.end();
        return [...rows];
      };
      const before = await settingsNow(direct);
      for (const command of [["status"], ["verify", "1"], ["migrate"]]) {
        await cli(command, { env: { DATABASE_URL: url } });
      }
      for (let n = 0; n < 4; n++) assert.equal(await settingsNow(url), before);
    }),
  );
} else {
  pooled.skip("skipped: there is no pgbouncer (apt-get install pgbouncer)", () => {});
}

pooled.run();
