/** Servers behind TLS with a certificate of no public authority, as managed ones are. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { open } from "../../src/database/connection.js";
import { migrate } from "../../src/database/migrate.js";
import { startWorker } from "../../src/worker/worker.js";
import { cli } from "../support/cli.js";
import { postgresMajor } from "../support/database.js";
import { assertWorks, failure, have, startTlsServer, type TlsServer } from "../support/field.js";

/** Runs `work` with these variables. */
async function withVariables(variables: Record<string, string>, work: () => Promise<void>) {
  const before = Object.fromEntries(
    Object.keys(variables).map((name) => [name, process.env[name]]),
  );
  Object.assign(process.env, variables);
  try {
    await work();
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

const tls = suite("TLS");
let server: TlsServer;

tls.before(async () => {
  server = await startTlsServer();
  const url = `postgres://postgres:${server.password}@127.0.0.1:${server.port}/postgres?sslmode=require`;
  await migrate(url, { current: true, createHostTables: true });
  const sql = await open(url);
  await sql`create role certified login superuser`;
  await sql`select rollup.set_reporting_timezone(1, 'Asia/Kolkata')`;
  await sql`
    insert into public.reporting_events (name, value, account_id, created_at, updated_at)
    select 'conversation_resolved', 1, 1, timestamp '2026-01-01' + n * interval '1 hour', now()
    from generate_series(1, 100) as n`;
  await sql.end();
});
tls.after(() => server.stop());

const tlsForms: Record<string, (server: TlsServer) => string> = {
  "nothing said": ({ password, port }) =>
    `postgres://postgres:${password}@localhost:${port}/postgres`,
  "sslmode=allow": ({ password, port }) =>
    `postgres://postgres:${password}@127.0.0.1:${port}/postgres?sslmode=allow`,
  "sslmode=require, as managed servers print it": ({ password, port }) =>
    `postgresql://postgres:${password}@127.0.0.1:${port}/postgres?sslmode=require`,
  "channel_binding=require, in whose place the certificate is verified": ({
    password,
    port,
    authority,
  }) =>
    `postgresql://postgres:${password}@localhost:${port}/postgres?sslmode=require&channel_binding=require&sslrootcert=${authority}`,
  "another name than the address": ({ password, port, authority }) =>
    `postgres://postgres:${password}@localhost:${port}/postgres?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=${authority}`,
  "for a client that pools": ({ password, port }) =>
    `postgres://postgres:${password}@127.0.0.1:${port}/postgres?sslmode=require&pgbouncer=true&connection_limit=1`,
  "sslmode=verify-ca": ({ password, port, authority }) =>
    `postgres://postgres:${password}@127.0.0.1:${port}/postgres?sslmode=verify-ca&sslrootcert=${authority}`,
  "sslmode=verify-full": ({ password, port, authority }) =>
    `postgres://postgres:${password}@localhost:${port}/postgres?sslmode=verify-full&sslrootcert=${authority}`,
  "a client's certificate": ({ port, certificate, key }) =>
    `postgres://certified@127.0.0.1:${port}/postgres?sslmode=require&sslcert=${certificate}&sslkey=${key}`,
  "a socket in the place of the host": ({ password, port, socket }) =>
    `postgres://postgres:${password}@${encodeURIComponent(socket)}:${port}/postgres?sslmode=require`,
  "a socket as a parameter": ({ password, port, socket }) =>
    `postgres://postgres:${password}@/postgres?host=${socket}&port=${port}`,
  "several hosts, the first of which is not there": ({ password, port }) =>
    `postgres://postgres:${password}@127.0.0.1:1,localhost:${port}/postgres?target_session_attrs=read-write`,
  "settings of the session": ({ password, port }) =>
    `postgres://postgres:${password}@127.0.0.1:${port}/postgres?options=-c%20geqo%3Doff&connect_timeout=10`,
};
if (postgresMajor >= 17) {
  tlsForms["sslnegotiation=direct"] = ({ password, port }) =>
    `postgres://postgres:${password}@127.0.0.1:${port}/postgres?sslmode=require&sslnegotiation=direct`;
}

const tlsRefusals: Record<string, { url: (server: TlsServer) => string; message: RegExp }> = {
  "sslmode=disable": {
    url: ({ password, port }) =>
      `postgres://postgres:${password}@127.0.0.1:${port}/postgres?sslmode=disable`,
    message: /does not let user postgres in: .*no encryption/,
  },
  "an authority that did not sign": {
    url: ({ password, port, stranger }) =>
      `postgres://postgres:${password}@localhost:${port}/postgres?sslmode=verify-ca&sslrootcert=${stranger}`,
    message: /no secure connection to the server/,
  },
  "another host's certificate": {
    url: ({ password, port, authority }) =>
      `postgres://postgres:${password}@127.0.0.1:${port}/postgres?sslmode=verify-full&sslrootcert=${authority}`,
    message: /no secure connection to the server/,
  },
  "a standby wanted": {
    url: ({ password, port }) =>
      `postgres://postgres:${password}@127.0.0.1:${port}/postgres?target_session_attrs=standby`,
    message: /There is no server that is standby, only primary and read-write/,
  },
  "channel binding without TLS": {
    url: ({ password, port, socket }) =>
      `postgres://postgres:${password}@/postgres?host=${socket}&port=${port}&channel_binding=require`,
    message: /channel_binding=require, and for no TLS/,
  },
  "channel binding, and a certificate that nobody known has signed": {
    url: ({ password, port }) =>
      `postgres://postgres:${password}@localhost:${port}/postgres?sslmode=require&channel_binding=require`,
    message: /no secure connection to the server/,
  },
  "no password": {
    url: ({ port }) => `postgres://postgres@127.0.0.1:${port}/postgres`,
    message: /wants a password of user postgres, and there is none/,
  },
};

if (have("openssl", "version")) {
  for (const [name, url] of Object.entries(tlsForms)) {
    tls(`works: ${name}`, () => assertWorks(url(server)));
  }
  for (const [name, { url, message }] of Object.entries(tlsRefusals)) {
    tls(`is refused, and says why: ${name}`, async () => {
      const refused = url(server);
      for (const work of [open, migrate, startWorker]) {
        assert.match((await failure(work(refused))).message, message);
      }
    });
  }
  tls("works: everything from PG… variables", () =>
    withVariables(
      {
        PGHOST: "localhost",
        PGPORT: String(server.port),
        PGUSER: "postgres",
        PGPASSWORD: server.password,
        PGDATABASE: "postgres",
        PGSSLMODE: "verify-full",
        PGSSLROOTCERT: server.authority,
        PGAPPNAME: "mine",
      },
      () => assertWorks("postgres://"),
    ),
  );
  tls("the commands take it", async () => {
    const env = {
      DATABASE_URL: tlsForms["sslmode=require, as managed servers print it"]?.(server) ?? "",
    };
    for (const command of [["status"], ["migrate"], ["backfill", "1", "--yes"]]) {
      const { code, stderr } = await cli(command, { env });
      assert.is(code, 0, stderr);
    }
  });
  tls.run();
} else {
  const skipped = suite("TLS");
  skipped.skip("skipped: there is no openssl to make certificates with", () => {});
  skipped.run();
}
