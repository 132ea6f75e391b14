import { suite } from "uvu";
import * as assert from "uvu/assert";
import { enqueueBackfill } from "../../../src/worker/backfill.js";
import { startWorker } from "../../../src/worker/worker.js";
import { cli, startCli, terminal } from "../../support/cli.js";
import { connect, type TestDatabase } from "../../support/database.js";
import { differences } from "../../support/oracle.js";
import {
  addHistory,
  databaseWithHistory,
  eventually,
  failingDays,
  heldRebuilds,
  hurry,
  lastRun,
  locked,
  runs,
  slowRebuilds,
  smallChunks,
} from "./support.js";

const backfill = suite("backfill");
const databases: TestDatabase[] = [];

backfill.after.each(async () => {
  for (const database of databases.splice(0)) await database.drop();
});

async function prepared(options: Parameters<typeof databaseWithHistory>[0] = {}) {
  const database = await databaseWithHistory({ timezone: "America/New_York", ...options });
  databases.push(database);
  return { ...database, env: { DATABASE_URL: database.url } };
}

backfill(
  "shows the plan, asks, works the run off with a progress bar, and says what to do next",
  async () => {
    const { sql, env } = await prepared();
    await smallChunks(sql, 100);
    const person = terminal(["backfill", "1"], { env });
    await person.until(/time zone +America\/New_York/);
    await person.until(/events +2025-12-07 12:00 to 2026-02-28 19:00/);
    await person.until(/days +2025-12-07 to 2026-02-28 \(84 days, the whole history/);
    await person.until(/to read +2,000 events in \d+ chunks/);
    await person.until("Begin?");
    person.press("enter");
    await person.until(/Run 1 .*100% 2,000 of 2,000 events/);
    await person.until(/Done: 2,000 events read, [\d,]+ rows written in/);
    await person.until("reporting-rollup verify 1");
    assert.is(await person.ended, 0);
    const [run] = await runs(sql);
    assert.is(run?.state, "done");
    assert.is(await locked(sql), 0);
    assert.equal(await differences(sql, 1), []);
  },
);

backfill("--dry-run does nothing", async () => {
  const { sql, env } = await prepared();
  const told = await cli(["backfill", "1", "--dry-run"], { env });
  assert.is(told.code, 0);
  assert.match(told.stdout, "Nothing was done (--dry-run).");
  const { stdout } = await cli(
    ["backfill", "1", "--dry-run", "--json", "--from", "2026-01-01", "--to", "2026-01-31"],
    { env },
  );
  const outlook = JSON.parse(stdout);
  assert.is(outlook.events, "744");
  assert.is(outlook.days, 31);
  assert.is((await runs(sql)).length, 1);
  assert.is((await runs(sql))[0]?.state, "pending");
});

backfill("a range, without questions, as a document", async () => {
  const { sql, env } = await prepared();
  await sql`update rollup.backfill_runs set state = 'cancelled', finished_at = now()`;
  const { code, stdout } = await cli(
    ["backfill", "1", "--from", "2026-01-01", "--to", "2026-01-31", "-y", "--json"],
    { env },
  );
  assert.is(code, 0);
  const run = JSON.parse(stdout);
  assert.equal(
    [run.state, run.from_date, run.to_date, run.events, run.chunks_done],
    ["done", "2026-01-01", "2026-01-31", "744", 1],
  );
  const [status] = await sql`select covered::text from rollup.account_status where account_id = 1`;
  assert.is(status?.covered, "{[2026-01-01,2026-02-01)}");
  assert.equal(await differences(sql, 1), []);
});

backfill("more than two years: a warning, and no is suggested", async () => {
  const { env } = await prepared();
  const person = terminal(["backfill", "1", "--from", "2023-01-01"], { env });
  await person.until("More than 730 days");
  await person.until("Begin? (y/N)");
  person.press("enter");
  await person.until("Nothing was done.");
  assert.is(await person.ended, 1);
});

backfill("Ctrl-C at the question changes nothing", async () => {
  const { sql, env } = await prepared();
  await sql`update rollup.backfill_runs set state = 'cancelled', finished_at = now()`;
  const person = terminal(["backfill", "1"], { env });
  await person.until("Begin?");
  person.press("ctrl-c");
  await person.until("Nothing was changed.");
  assert.is(await person.ended, 130);
  assert.is((await runs(sql)).length, 1);
});

backfill(
  "Ctrl-C amid it loses nothing, and says how to go on; that goes on where it was",
  async () => {
    const { sql, env } = await prepared();
    await smallChunks(sql, 100);
    await slowRebuilds(sql, 0.2);
    const person = terminal(["backfill", "1", "--yes"], { env });
    await eventually(
      "two chunks are done",
      async () => ((await runs(sql))[0]?.chunks_done ?? 0) >= 2,
    );
    person.press("ctrl-c");
    await person.until("Finishing the chunk under way");
    await person.until(/nothing is lost: \d+ of \d+ chunks of run 1 are done for good/);
    await person.until("reporting-rollup backfill 1");
    await person.until("select rollup.cancel_backfill(1)");
    assert.is(await person.ended, 130);
    assert.not.match(person.output(), /\n {4}at /);
    assert.is(await locked(sql), 0);
    const [interrupted] = await runs(sql);
    assert.is(interrupted?.state, "running");
    const resumed = terminal(["backfill", "1", "--yes"], { env });
    await resumed.until("Run 1 is already at it: joining.");
    await resumed.until("Done: 2,000 events read");
    assert.is(await resumed.ended, 0);
    assert.is((await runs(sql)).length, 1);
    assert.equal(await differences(sql, 1), []);
  },
);

backfill("a second Ctrl-C ends it at once, and still nothing is lost", async () => {
  const { sql, env } = await prepared();
  await smallChunks(sql, 100);
  await slowRebuilds(sql, 1);
  const person = terminal(["backfill", "1", "--yes"], { env });
  await eventually("a chunk is done", async () => ((await runs(sql))[0]?.chunks_done ?? 0) >= 1);
  person.press("ctrl-c");
  await person.until("Finishing the chunk under way");
  person.press("ctrl-c");
  assert.is(await person.ended, 130);
  await sql`drop trigger take_a_moment on rollup.reporting_events_rollups`;
  const { code } = await cli(["backfill", "1", "--yes"], { env });
  assert.is(code, 0);
  assert.equal(await differences(sql, 1), []);
  assert.is(await locked(sql), 0);
});

backfill("shows the progress of a run that another worker works on", async () => {
  const { sql, url, env } = await prepared();
  await smallChunks(sql, 200);
  const held = await heldRebuilds(sql, "2026-02-01");
  const worker = await startWorker(url);
  try {
    await eventually("a part is done", async () => ((await runs(sql))[0]?.chunks_done ?? 0) > 0);
    const person = terminal(["backfill", "1", "--yes"], { env });
    await person.until("joining");
    await person.until(/Run 1 .*[1-9]\d*% /);
    await held.release();
    await person.until("Done: 2,000 events read");
    assert.is(await person.ended, 0);
  } finally {
    await worker.stop();
  }
  assert.is((await runs(sql)).length, 1);
});

backfill("--no-wait leaves it to a worker", async () => {
  const { sql, url, env } = await prepared();
  const { code, stdout } = await cli(["backfill", "1", "--yes", "--no-wait"], { env });
  assert.is(code, 0);
  assert.match(stdout, "Run 1 is queued");
  assert.is((await runs(sql))[0]?.state, "pending");
  const worker = await startWorker(url);
  try {
    assert.is((await lastRun(sql)).state, "done");
  } finally {
    await worker.stop();
  }
});

backfill("asked for twice before it begins, it is one run", async () => {
  const { sql } = await prepared();
  assert.is(await enqueueBackfill(sql, 1, { from: "2020-01-01" }), "1");
  assert.is(await enqueueBackfill(sql, 1), "1");
  assert.is((await runs(sql)).length, 1);
});

backfill("chunks that fail: 1, with the reason and what to do", async () => {
  const { sql, env } = await prepared();
  await smallChunks(sql, 200);
  await failingDays(sql, "2026-01-10", "2026-01-10");
  const going = startCli(["backfill", "1", "--yes"], { env });
  await eventually("the run has ended", async () => {
    await hurry(sql);
    return (await runs(sql))[0]?.state === "failed";
  });
  const { code, stderr } = await going.result;
  assert.is(code, 1);
  assert.match(stderr, /1 of \d+ chunks failed: .*this day cannot be/);
  assert.match(stderr, "read from raw events");
});

backfill("what cannot succeed ends within seconds, with the reason", async () => {
  const { sql, env } = await prepared();
  await smallChunks(sql, 100);
  await sql.unsafe(`
    create function public.refuse() returns trigger language plpgsql as $$
      begin raise exception using errcode = '55000', message = 'cannot write to ' || tg_table_name; end $$`);
  for (const [table, message] of [
    ["backfill_chunks", /Run \d+ could not begin: cannot write to backfill_chunks/],
    [
      "reporting_events_rollups",
      /(\d+) of \1 chunks failed: chunk 1 .*: cannot write to reporting_/,
    ],
  ] as const) {
    await sql.unsafe(
      `create trigger refuse before insert on rollup.${table} for each statement execute function public.refuse()`,
    );
    const started = performance.now();
    const { code, stderr } = await cli(["backfill", "1", "--yes"], { env });
    assert.is(code, 1);
    assert.match(stderr, message);
    assert.ok(performance.now() - started < 15_000);
    await sql.unsafe(`drop trigger refuse on rollup.${table}`);
  }
});

backfill("a queue that cannot run is told at once, and the command ends", async () => {
  const { sql, env } = await prepared();
  await sql`insert into rollup_worker.migrations (id, breaking) values (1000000, true)`;
  const going = terminal(["backfill", "1", "--yes"], { env });
  await going.until(/the queue does not run: jobs wait: .*revision/);
  await going.until(/This process cannot take the run's job: .*revision/);
  await going.until("hint: The run stays queued");
  assert.is(await going.ended, 1);
  const { stdout } = await cli(["status"], { env });
  assert.match(stdout, "No worker takes jobs, and 1 backfill waits for one.");
});

backfill("a run cancelled elsewhere: 1", async () => {
  const { sql, env } = await prepared();
  await smallChunks(sql, 100);
  await slowRebuilds(sql, 0.2);
  const going = startCli(["backfill", "1", "--yes"], { env });
  await eventually("a chunk is done", async () => ((await runs(sql))[0]?.chunks_done ?? 0) >= 1);
  await sql`select rollup.cancel_backfill(1)`;
  const { code, stderr } = await going.result;
  assert.is(code, 1);
  assert.match(stderr, "Run 1 was cancelled");
});

backfill(
  "while transactions older than the zone are under way it says what it waits for",
  async () => {
    const { sql, url, env } = await prepared({ timezone: undefined });
    const old = connect({ url });
    try {
      await old.begin("isolation level repeatable read", async (transaction) => {
        await transaction`select count(*) from public.reporting_events`;
        await sql`select rollup.set_reporting_timezone(1, 'Asia/Kolkata')`;
        const person = terminal(["backfill", "1", "--yes"], { env });
        await person.until("waiting for transactions older than the account's time zone");
        person.press("ctrl-c");
        assert.is(await person.ended, 130);
      });
    } finally {
      await old.end();
    }
    assert.is((await cli(["backfill", "1", "--yes"], { env })).code, 0);
    assert.equal(await differences(sql, 1), []);
  },
);

backfill("what cannot be: a message with the remedy", async () => {
  const { sql, env } = await prepared();
  await addHistory(sql, { account: 2, events: 3 });
  await sql`insert into rollup.account_settings (account_id) values (4)`;
  const cases: [string[], number, RegExp][] = [
    [["1"], 2, /no terminal to ask on.*\nhint: Pass --yes/],
    [["2", "--yes"], 1, /account 2 has no reporting time zone\nhint: /],
    [["4", "--yes"], 1, /account 4 has no reporting time zone\nhint: /],
    [["99", "--yes"], 1, /no account 99\nhint: /],
    [["1", "--from", "2026-02-30"], 2, /is a date from/],
    [["1", "--from", "yesterday"], 2, /is a date from/],
    [["1", "--to", "9999-01-01"], 2, /is a date from/],
    [["1", "--from", "2026-02-02", "--to", "2026-02-01"], 2, /is reversed/],
    [["1", "--nonsense"], 2, /unknown option/],
    [[], 2, /No account was named/],
  ];
  for (const [args, exit, message] of cases) {
    const { code, stderr } = await cli(["backfill", ...args], { env });
    assert.is(code, exit, args.join(" "));
    assert.match(stderr, message);
    assert.not.match(stderr, /\n {4}at /);
  }
  assert.is((await runs(sql)).length, 1);
});

backfill("an account without events, and a range without", async () => {
  const { sql, env } = await prepared();
  await sql`select rollup.set_reporting_timezone(7, 'Asia/Tokyo')`;
  const none = await cli(["backfill", "7", "--yes"], { env });
  assert.is(none.code, 0);
  assert.match(none.stdout, "no events to roll up yet");
  const [status] = await sql`select covered::text from rollup.account_status where account_id = 7`;
  assert.is(status?.covered, "{(,)}");
  const range = await cli(["backfill", "1", "--from", "2030-01-01", "--dry-run"], { env });
  assert.match(range.stdout, "There are no events in this range");
});

backfill.run();
