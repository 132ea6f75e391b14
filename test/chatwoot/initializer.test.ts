/** The initializer of docs/chatwoot.md, run by Ruby against a stand-in for the host: it answers as raw events do, whatever happens. */
import { execFile, spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect, database, databaseUrl, owner } from "../support/database.js";

const root = resolve(import.meta.dirname, "../..");
const { status } = spawnSync("ruby", ["-e", "require 'active_record'; require 'pg'"]);
const testOrSkip = status === 0 ? test : test.skip;
if (status !== 0)
  console.log(
    "skipped: there is no Ruby with ActiveRecord and pg (apt-get install ruby ruby-activerecord ruby-pg)",
  );

const sql = database();

async function block(language: string): Promise<string> {
  const text = await readFile(join(root, "docs/chatwoot.md"), "utf8");
  const [, found] = new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, "m").exec(text) ?? [];
  assert.ok(found, `docs/chatwoot.md has ${language}`);
  return found as string;
}

/** Five accounts with half a year of events, three of them read from rollups. */
async function history(): Promise<void> {
  const zones = ["America/New_York", "Asia/Kolkata", "Europe/London", null, "UTC"];
  const events = (account: number, count: number) => sql`
    insert into public.reporting_events
      (name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id, created_at, updated_at)
    select
      (array['conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_resolved', 'conversation_bot_handoff'])[1 + floor(random() * 5)],
      case when random() > 0.1 then floor(random() * 90000) end, case when random() > 0.1 then floor(random() * 30000) / 4 end,
      ${account}, nullif(floor(random() * 4)::int, 0), nullif(floor(random() * 4)::int, 0), nullif(floor(random() * 300)::int, 0),
      e.at, e.at
    from generate_series(1, ${count}::int) as i
    cross join lateral (
      select timestamp '2025-12-15' + random() * interval '210 days' + 0 * i * interval '1 s' as at
    ) as e`;
  for (const [index, zone] of zones.entries()) {
    const account = index + 1;
    await events(account, 800);
    if (zone !== null) await sql`select rollup.set_reporting_timezone(${account}, ${zone})`;
    if (zone !== null) await sql`select rollup.backfill(${account})`;
    await sql`select rollup.set_reporting_events_rollup(${account}, ${zone !== "UTC"})`;
    // Through the trigger.
    await events(account, 100);
  }
}

testOrSkip("random pages, and pages while something fails, are those of raw events", async () => {
  await history();
  const roles = ["stranger", "reader"].map((name) =>
    `${name}_${new URL(databaseUrl).pathname.slice(1)}`.slice(0, 60),
  );
  const superuser = connect({ superuser: true });
  const dir = await mkdtemp(join(tmpdir(), "initializer-"));
  try {
    for (const role of roles) {
      await superuser.unsafe(`
        create role ${role};
        grant usage on schema public to ${role};
        grant select on all tables in schema public to ${role};
        grant ${role} to ${owner}`);
    }
    await sql.unsafe((await block("sql")).replaceAll("to chatwoot;", `to ${roles[1]};`));
    await writeFile(join(dir, "reporting_rollup.rb"), await block("ruby"));
    const seed = process.env.SEED ?? String(Math.floor(Math.random() * 2 ** 31));
    console.log(`seed ${seed}`);
    const { stdout } = await promisify(execFile)(
      "ruby",
      [join(root, "test/chatwoot/questions.rb")],
      {
        env: {
          ...process.env,
          DATABASE_URL: databaseUrl,
          INITIALIZER: join(dir, "reporting_rollup.rb"),
          SEED: seed,
          QUESTIONS: process.env.QUESTIONS ?? "300",
          STRANGER: roles[0],
          READER: roles[1],
        },
      },
    );
    const { asked, served, wrong } = JSON.parse(stdout);
    assert.equal(wrong, []);
    assert.ok(
      served > asked / 4 && served < asked,
      `${served} of ${asked} were served from rollups`,
    );
  } finally {
    await rm(dir, { recursive: true });
    for (const role of roles) {
      await superuser.unsafe(`drop owned by ${role}; drop role ${role}`).catch(() => {});
    }
    await superuser.end();
  }
});

test.run();
