import { suite } from "uvu";
import * as assert from "uvu/assert";
import { migrate } from "../../../src/database/migrate.js";
import { uninstall } from "../../../src/database/uninstall.js";
import { cli, terminal } from "../../support/cli.js";
import { connect, type TestDatabase } from "../../support/database.js";
import { databaseWithHistory } from "./support.js";

const commands = suite("uninstall");
const databases: TestDatabase[] = [];

commands.after.each(async () => {
  for (const database of databases.splice(0)) await database.drop();
});

async function prepared() {
  const database = await databaseWithHistory({ timezone: "America/New_York", events: 100 });
  databases.push(database);
  return { ...database, env: { DATABASE_URL: database.url } };
}

async function left(sql: TestDatabase["sql"]) {
  const [row] = await sql`
    select
      (select count(*)::int from pg_namespace where nspname in ('rollup', 'rollup_worker', 'graphile_migrate')) as schemas,
      (select count(*)::int from pg_trigger where tgrelid = 'public.reporting_events'::regclass and not tgisinternal) as triggers,
      (select count(*)::int from public.reporting_events) as events`;
  return { ...row };
}

commands(
  "asks, removes all of ours and nothing of the host's; migrate installs it again",
  async () => {
    const { sql, url, env } = await prepared();
    await sql`insert into graphile_migrate.migrations (hash, previous_hash, filename) values ('sha1:other', null, 'other.sql')`;
    const person = terminal(["uninstall"], { env });
    await person.until("Raw events and all else of the host stay.");
    await person.until("Remove all that? (y/N)");
    person.type("y");
    person.press("enter");
    await person.until("Removed.");
    assert.is(await person.ended, 0);
    assert.equal(await left(sql), { schemas: 1, triggers: 0, events: 100 });
    const kept = await sql`select hash from graphile_migrate.migrations`;
    assert.equal([...kept], [{ hash: "sha1:other" }]);
    await sql`insert into public.reporting_events (name, account_id, created_at, updated_at) values ('reply_time', 1, now(), now())`;
    await sql`delete from graphile_migrate.migrations`;
    await migrate(url, { current: true, createHostTables: true });
    const [settings] = await sql`select count(*)::int as accounts from rollup.account_settings`;
    assert.is(settings?.accounts, 0);
  },
);

commands("no, and Ctrl-C, remove nothing", async () => {
  const { sql, env } = await prepared();
  const before = await left(sql);
  const refused = terminal(["uninstall"], { env });
  await refused.until("Remove all that?");
  refused.press("enter");
  await refused.until("Nothing was removed.");
  assert.is(await refused.ended, 1);
  const interrupted = terminal(["uninstall"], { env });
  await interrupted.until("Remove all that?");
  interrupted.press("ctrl-c");
  assert.is(await interrupted.ended, 130);
  const blind = await cli(["uninstall"], { env });
  assert.is(blind.code, 2);
  assert.match(blind.stderr, /no terminal to ask on.*\nhint: Pass --yes/);
  assert.equal(await left(sql), before);
});

commands("without questions, twice", async () => {
  const { sql, env } = await prepared();
  const { code, stdout } = await cli(["uninstall", "--yes", "--json"], { env });
  assert.is(code, 0);
  assert.equal(JSON.parse(stdout).removed, ["rollup", "rollup_worker", "graphile_migrate"]);
  assert.is((await cli(["uninstall", "--yes"], { env })).code, 0);
  assert.equal(await left(sql), { schemas: 0, triggers: 0, events: 100 });
  const gone = await cli(["status"], { env });
  assert.is(gone.code, 1);
  assert.match(gone.stderr, "reporting-rollup migrate");
});

commands("does not make the host's writers wait behind it", async () => {
  const { sql, url } = await prepared();
  const old = connect({ url });
  try {
    await old.begin(async (transaction) => {
      await transaction`select count(*) from public.reporting_events`;
      const removing = uninstall(url, { patience: 1500 }).then(
        () => "removed",
        (error) => error.message,
      );
      const waits: number[] = [];
      for (let n = 0; n < 20; n++) {
        const started = performance.now();
        await sql`insert into public.reporting_events (name, account_id, created_at, updated_at) values ('reply_time', 1, now(), now())`;
        waits.push(performance.now() - started);
        await new Promise((done) => setTimeout(done, 50));
      }
      assert.ok(Math.max(...waits) < 1000, `${Math.max(...waits)} ms`);
      assert.match(await removing, "Gave up waiting");
    });
  } finally {
    await old.end();
  }
  await uninstall(url);
  assert.is((await left(sql)).schemas, 0);
});

commands.run();
