import { createServer, type Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { readConfig } from "../../src/command_line/config.js";
import { checkVersion, open, type Sql } from "../../src/database/connection.js";
import { UserError } from "../../src/database/errors.js";
import { explainConnection } from "../../src/database/explain.js";
import { readUrl } from "../../src/database/url.js";
import { database, databaseUrl, otherDatabase } from "../support/database.js";

async function failure(work: () => unknown): Promise<UserError> {
  try {
    await work();
  } catch (error) {
    assert.instance(error, UserError);
    return error as UserError;
  }
  throw new Error("it did not fail");
}

test("dates, timestamps, bigint and numeric arrive as the database's text", async () => {
  const [row] = await database()`
    select date '2024-11-03' as date, timestamp '2024-11-03 04:30:00.123456' as timestamp,
           date 'infinity' as never, 9007199254740993::bigint as bigint, 0.10::numeric as numeric,
           array[date '2024-01-01'] as dates, ${"2024-02-29"}::date as given`;
  assert.equal(
    { ...row },
    {
      date: "2024-11-03",
      timestamp: "2024-11-03 04:30:00.123456",
      never: "infinity",
      bigint: "9007199254740993",
      numeric: "0.10",
      dates: ["2024-01-01"],
      given: "2024-02-29",
    },
  );
});

test("a server that is not there", async () => {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => probe.once("listening", done));
  const { port } = probe.address() as { port: number };
  await new Promise((done) => probe.close(done));
  const error = await failure(() => open(`postgres://u:secret@127.0.0.1:${port}/db`));
  assert.match(error.message, `No PostgreSQL server answers at 127.0.0.1:${port}.`);
  assert.is(error.exitCode, 1);
  assert.ok(error.hint);
});

test("a wrong password, which is not repeated", async () => {
  const url = otherDatabase(databaseUrl, "postgres", { user: "postgres", password: "wr0ng" });
  const error = await failure(() => open(url));
  assert.match(error.message, /refuses the password of user postgres/);
  assert.not.match(`${error.message} ${error.hint}`, "wr0ng");
});

test("an unknown database", async () => {
  const error = await failure(() => open(otherDatabase(databaseUrl, "nowhere")));
  assert.match(error.message, /There is no database nowhere/);
});

test("a server that takes the connection and says nothing", async () => {
  const sockets: Socket[] = [];
  const silent = createServer((socket) => sockets.push(socket)).listen(0, "127.0.0.1");
  await new Promise((done) => silent.once("listening", done));
  const { port } = silent.address() as { port: number };
  const started = performance.now();
  const error = await failure(() => open(`postgres://u:p@127.0.0.1:${port}/d?connect_timeout=1`));
  assert.match(error.message, `No PostgreSQL server answers at 127.0.0.1:${port}.`);
  assert.ok(performance.now() - started < 9000);
  for (const socket of sockets) socket.destroy();
  await new Promise((done) => silent.close(done));
});

test("a statement waits for a free connection for as long as it takes", async () => {
  const sql = await open(`${databaseUrl}&connect_timeout=1`, { max: 1 });
  const waited = await Promise.all([
    sql`select pg_sleep(1.5)`,
    sql`select pg_sleep(0)`,
    sql`select 1 as n`,
  ]);
  assert.is(waited[2][0]?.n, 1);
  await sql.end();
});

test("an unknown host", () => {
  const error = Object.assign(new Error("getaddrinfo ENOTFOUND db.invalid"), { code: "ENOTFOUND" });
  const explained = explainConnection(error, "postgres://u:p@db.invalid/x") as UserError;
  assert.is(explained.message, "The host db.invalid is not known.");
});

test("a server that is too old", async () => {
  const old = async () => [{ server_version: "14.9 (Debian)", server_version_num: "140009" }];
  const error = await failure(() => checkVersion(old as unknown as Sql));
  assert.is(
    error.message,
    "The server runs PostgreSQL 14.9 (Debian); reporting-rollup needs 15 or newer.",
  );
});

test("where a URL leads, without the password", () => {
  const { host, port, user, database } = readUrl(
    "postgres://me:secret@db.example:6543/app?sslmode=require",
  );
  assert.equal([host, port, user, database], ["db.example", "6543", "me", "app"]);
});

test("a malformed DATABASE_URL is a wrong argument, and not repeated", async () => {
  for (const value of ["mysql://u:secret@h/d", "postgres://u:se#cret@h:port/d", "secret"]) {
    const error = await failure(() => readConfig({ DATABASE_URL: value }));
    assert.is(error.exitCode, 2);
    assert.match(error.message, "DATABASE_URL");
    assert.not.match(`${error.message} ${error.hint}`, "secret");
  }
  assert.is(readConfig({ DATABASE_URL: " " }).databaseUrl, undefined);
  const several = "postgres://u:p@a:5432,b:5433/d";
  assert.is(readConfig({ DATABASE_URL: several }).databaseUrl, several);
});

test.run();
