import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";

import { demoDatabase } from "../../../src/command_line/commands/demo.js";
import {
  acquireEmbedded,
  prepareCluster,
  runningPort,
  stopServer,
} from "../../../src/server/server.js";
import { cli, terminal } from "../../support/cli.js";
import { connect } from "../../support/client.js";
import { postgresMajor } from "../../support/database.js";
import { differences } from "../../support/oracle.js";

const demo = suite("demo");
let folder: string;
let env: Record<string, string>;

demo.before(async () => {
  folder = await mkdtemp(join(tmpdir(), "reporting-rollup-demo-test-"));
  await chmod(folder, 0o755);
  // Never the user's own database.
  env = { REPORTING_ROLLUP_DATA: join(folder, "data"), DATABASE_URL: "postgres://127.0.0.1:1/own" };
});

demo.after(async () => {
  const cluster = await prepareCluster(join(folder, "data"));
  if ((await runningPort(cluster)) !== undefined) await stopServer(cluster);
  await rm(folder, { recursive: true, force: true });
});

/** The demo is the embedded server's, whatever version the other tests run on: once is enough. */
const once = postgresMajor === 18 ? demo : demo.skip;

once("tells its story on a terminal, and leaves a database that is exact", async () => {
  const person = terminal(["demo"], { env, columns: 100 });
  await person.until("A support desk's history");
  await person.until(/\d{3},\d{3} events of [\d,]+ conversations/);
  await person.until("Account 1 (Chai & Co.) counts its days in Asia/Kolkata");
  await person.until(/Backfill .*100% /);
  await person.until(/rows of daily totals, in /);
  await person.until("200 conversations resolved one by one");
  await person.until("Account 1: resolutions a day");
  await person.until("Account 2: average first response time by month (minutes)");
  await person.until(/Ava +\d+ +\d+ h/);
  await person.until(/Exact: [\d,]+ rows on [\d,]+ account days equal a recomputation/);
  await person.until("Three things to try");
  await person.until(`psql -h 127.0.0.1`);
  assert.is(await person.ended, 0);
  assert.match(person.output(), /\d┤.*[\s\S]*\d┤/);
  const server = await acquireEmbedded(join(folder, "data"), { database: demoDatabase });
  assert.not.match(person.output(), new URL(server.url).password);
  const sql = connect(server.url);
  assert.equal(await differences(sql, 1), []);
  assert.equal(await differences(sql, 2), []);
  await sql.end();
  await server.release({ stop: true });
});

once("begins anew each time; with --json it is one document", async () => {
  const { code, stdout } = await cli(["demo", "--json"], { env });
  assert.is(code, 0);
  const document = JSON.parse(stdout);
  assert.is(document.database, demoDatabase);
  assert.is(document.differences, "0");
  assert.ok(
    Number(document.events) > 290_000 && Number(document.events) < 310_000,
    document.events,
  );
});

once("Ctrl-C amid its backfill ends it, and stops the server it started", async () => {
  const person = terminal(["demo"], { env });
  await person.until("Time zones, and the backfill they ask for");
  person.press("ctrl-c");
  assert.is(await person.ended, 130);
  assert.not.match(person.output(), /\n {4}at /);
  assert.is(await runningPort(await prepareCluster(join(folder, "data"))), undefined);
});

demo.run();
