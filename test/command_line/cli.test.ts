import { execFile } from "node:child_process";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { prepareCluster, runningPort, stopServer } from "../../src/server/server.js";
import { cli, startCli, type Terminal, terminal } from "../support/cli.js";
import { createDatabase, databaseUrl, otherDatabase } from "../support/database.js";

const root = resolve(import.meta.dirname, "../..");
const commands = suite("command line");
const folders: string[] = [];
const terminals: Terminal[] = [];

commands.after.each(async () => {
  for (const open of terminals.splice(0)) open.kill();
  for (const folder of folders.splice(0)) {
    const cluster = await prepareCluster(join(folder, ".reporting-rollup"));
    if ((await runningPort(cluster)) !== undefined) await stopServer(cluster);
    await rm(folder, { recursive: true, force: true });
  }
});

/** An empty project, with the embedded server to itself. */
async function project() {
  const cwd = await mkdtemp(join(tmpdir(), "reporting-rollup-cli-test-"));
  await chmod(cwd, 0o755);
  folders.push(cwd);
  return { cwd, env: { DATABASE_URL: "" } };
}

commands("help and version", async () => {
  const help = await cli(["--help"]);
  assert.is(help.code, 0);
  assert.match(help.stdout, /migrate .*\n/);
  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  assert.equal(await cli(["--version"]), { code: 0, stdout: `${version}\n`, stderr: "" });
});

commands("wrong arguments end with 2", async () => {
  for (const args of [["nonsense"], ["migrate", "--nonsense"], ["migrate", "nonsense"], []]) {
    const { code, stdout, stderr } = await cli(args);
    assert.is(code, 2, args.join(" "));
    assert.is(stdout, "");
    assert.not.match(stderr, /\n {4}at /);
  }
  const { code, stdout } = await cli(["migrate", "--nonsense", "--json"]);
  assert.is(code, 2);
  assert.match(JSON.parse(stdout).error.message, "unknown option '--nonsense'");
});

commands("a malformed DATABASE_URL ends with 2, and is not shown", async () => {
  const { code, stderr } = await cli(["migrate"], {
    env: { DATABASE_URL: "mysql://u:secret@h/d" },
  });
  assert.is(code, 2);
  assert.match(stderr, /^error: DATABASE_URL is not of the form/);
  assert.not.match(stderr, "secret");
});

const failures: Record<string, { url: string; message: RegExp }> = {
  "no server": {
    url: "postgres://u:secret@127.0.0.1:1/db",
    message: /^error: No PostgreSQL server answers at 127\.0\.0\.1:1\.\nhint: /,
  },
  "a wrong password": {
    url: otherDatabase(databaseUrl, "postgres", { user: "postgres", password: "secret" }),
    message: /^error: The server at .* refuses the password of user postgres\.\nhint: /,
  },
  "no such database": {
    url: otherDatabase(databaseUrl, "secretless"),
    message: /^error: There is no database secretless on the server at .*\nhint: /,
  },
};

for (const [name, { url, message }] of Object.entries(failures)) {
  commands(`${name}: a message with a remedy, and 1`, async () => {
    const { code, stdout, stderr } = await cli(["migrate"], { env: { DATABASE_URL: url } });
    assert.is(code, 1);
    assert.is(stdout, "");
    assert.match(stderr, message);
    assert.not.match(stderr, /secret\b|\n {4}at /);
    const json = await cli(["--json", "migrate"], { env: { DATABASE_URL: url } });
    assert.is(json.code, 1);
    const { error } = JSON.parse(json.stdout);
    assert.ok(error.message && error.hint);
  });
}

commands("migrate says what it did, for people and for programs", async () => {
  const database = await createDatabase({ empty: true });
  const env = { DATABASE_URL: database.url };
  const first = await cli(["migrate", "--create-host-tables"], { env });
  assert.is(first.code, 0, first.stderr);
  assert.match(first.stdout, /the host's tables were made too.*\n.* is up to date\.\n$/);
  const second = await cli(["migrate", "--json"], { env });
  assert.is(second.code, 0);
  assert.is(JSON.parse(second.stdout).host_tables, "found");
  assert.is(second.stderr, "");
  await database.drop();
});

commands("migrate that waits can be interrupted", async () => {
  const database = await createDatabase({ empty: true });
  await database.sql`select pg_advisory_lock(4727445306447283)`;
  const waiting = startCli(["migrate", "--create-host-tables"], {
    env: { DATABASE_URL: database.url },
  });
  await waiting.until("Waiting for graphile-migrate");
  waiting.signal("SIGINT");
  assert.is((await waiting.result).code, 130);
  await database.drop();
});

commands("a reader that closes the pipe is no failure", async () => {
  const migrating = startCli(["migrate"]);
  migrating.closeStdout();
  const { code, stderr } = await migrating.result;
  assert.is(code, 0, stderr);
  assert.is(stderr, "");
});

commands("output that cannot be written is one", async () => {
  const { code, stderr } = await promisify(execFile)(
    "/bin/sh",
    ["-c", `'${process.execPath}' dist/command_line/cli.js migrate > /dev/full`],
    { cwd: root, env: { ...process.env, DATABASE_URL: databaseUrl } },
  ).catch((error) => error);
  assert.is(code, 1);
  assert.match(stderr, "cannot write the output: ");
});

commands("without DATABASE_URL the embedded server is started, and stopped again", async () => {
  const { cwd, env } = await project();
  const { code, stdout, stderr } = await cli(["migrate"], { cwd, env });
  assert.is(code, 0, stderr);
  assert.match(stderr, /^Starting PostgreSQL 18/);
  assert.match(stdout, "is up to date");
  const cluster = await prepareCluster(join(cwd, ".reporting-rollup"));
  assert.is(await runningPort(cluster), undefined);
});

commands("Ctrl-C while the server starts leaves none behind", async () => {
  const { cwd, env } = await project();
  for (const delay of [0, 200, 600]) {
    const migrating = terminal(["migrate"], { cwd, env });
    terminals.push(migrating);
    await migrating.until("Starting PostgreSQL");
    await new Promise((done) => setTimeout(done, delay));
    migrating.press("ctrl-c");
    const code = await migrating.ended;
    assert.ok(code === 130 || (code === 0 && delay > 0), `${code}: ${migrating.output()}`);
    const cluster = await prepareCluster(join(cwd, ".reporting-rollup"));
    assert.is(await runningPort(cluster), undefined);
  }
});

commands("server prints how to connect, serves others, and stops at Ctrl-C", async () => {
  const { cwd, env } = await project();
  const server = terminal(["server"], { cwd, env, columns: 200 });
  terminals.push(server);
  await server.until(/PGPASSFILE=\S+ psql -h 127\.0\.0\.1 -p \d+ -U postgres reporting_rollup/);
  const other = await cli(["migrate"], { cwd, env });
  assert.is(other.code, 0);
  assert.is(other.stderr, "", "it was there, and stays");
  const password = (await readFile(join(cwd, ".reporting-rollup/data/pgpass"), "utf8"))
    .trim()
    .split(":")[4] as string;
  assert.not.match(server.output(), password);
  server.press("ctrl-c");
  await server.until("Stopped.");
  assert.is(await server.ended, 0);
});

commands("server as JSON, ended by SIGTERM", async () => {
  const { cwd, env } = await project();
  const server = startCli(["server", "--json"], { cwd, env });
  await server.until("}");
  server.signal("SIGTERM");
  const { code, stdout } = await server.result;
  assert.is(code, 0);
  const { host, port, user, database, passfile } = JSON.parse(stdout);
  assert.equal([host, user, database], ["127.0.0.1", "postgres", "reporting_rollup"]);
  assert.ok(port > 0);
  assert.match(await readFile(passfile, "utf8"), ":postgres:");
});

commands("server does not mean DATABASE_URL's", async () => {
  const { code, stderr } = await cli(["server"]);
  assert.is(code, 2);
  assert.match(stderr, "DATABASE_URL names another server");
});

commands.run();
