/** A connection URL as libpq's documentation has it (33.1.1.2 and the parameters of 33.1.2), read into parts. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { UserError } from "../../src/database/errors.js";
import { readUrl } from "../../src/database/url.js";

const nobody = { HOME: "/nonexistent" };
const me = userInfo().username;

/** The ways to connect in one line each: user, password, where, database, with or without TLS. */
function ways(url: string, env: NodeJS.ProcessEnv = nobody): string[] {
  return readUrl(url, env).attempts.map((attempt) => {
    const { user, password = "", address, port, database, tls, attributes, options } = attempt;
    const rest = [attributes === "any" ? "" : ` ${attributes}`, options ? ` ${options}` : ""].join(
      "",
    );
    return `${user}:${password}@${address} ${port} ${database} ${tls ? "tls" : "plain"}${rest}`;
  });
}

/** Of a URL that is to be read without regard to TLS. */
function way(url: string, env: NodeJS.ProcessEnv = nobody): string[] {
  return ways(url, { PGSSLMODE: "disable", ...env }).map((text) => text.replace(" plain", ""));
}

function refusal(url: string, env: NodeJS.ProcessEnv = nobody): UserError {
  try {
    readUrl(url, env);
  } catch (error) {
    assert.instance(error, UserError);
    assert.is((error as UserError).exitCode, 2);
    return error as UserError;
  }
  throw new Error(`${url} was not refused`);
}

const forms: Record<string, string> = {
  "postgresql://localhost": `${me}:@localhost 5432 ${me}`,
  "postgresql://localhost:5433": `${me}:@localhost 5433 ${me}`,
  "postgresql://localhost/mydb": `${me}:@localhost 5432 mydb`,
  "postgresql://user@localhost": "user:@localhost 5432 user",
  "postgresql://user:secret@localhost": "user:secret@localhost 5432 user",
  "postgres://user:secret@localhost:/mydb": "user:secret@localhost 5432 mydb",
  "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp":
    "other:@localhost 5432 otherdb",
  "postgresql:///mydb?host=localhost&port=5433": `${me}:@localhost 5433 mydb`,
  "postgresql://?host=h&dbname=d&user=u&password=p": "u:p@h 5432 d",
  "postgresql://u:old@h/d?password=new&user=v": "v:new@h 5432 d",
  "postgresql://user@localhost:5433/mydb?options=-c%20synchronous_commit%3Doff":
    "user:@localhost 5433 mydb -c synchronous_commit=off",
  "postgresql://[2001:db8::1234]/database": `${me}:@2001:db8::1234 5432 database`,
  "postgresql://u@[::1]:5433/d": "u:@::1 5433 d",
  "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname": `${me}:@/var/lib/postgresql 5432 dbname`,
  "postgresql:///dbname?host=/var/lib/postgresql": `${me}:@/var/lib/postgresql 5432 dbname`,
  "postgres://u:p%40s%3As%2F%3F%23%25@h/my%20db": "u:p@s:s/?#%@h 5432 my db",
  "postgres://u:p?#s@h/d": "u:p?#s@h 5432 d",
  "postgres://u@h/d?hostaddr=10.0.0.1": "u:@10.0.0.1 5432 d",
};

for (const [url, expected] of Object.entries(forms)) {
  test(`reads ${url}`, () => assert.equal(way(url), [expected]));
}

test("several hosts, each with its port or all with one, tried in turn", () => {
  assert.equal(way("postgresql://u@host1:123,host2:456/d?target_session_attrs=any"), [
    "u:@host1 123 d",
    "u:@host2 456 d",
  ]);
  assert.equal(way("postgresql://u@a,[::1]:6543/d"), ["u:@a 5432 d", "u:@::1 6543 d"]);
  assert.equal(way("postgresql://u@/d?host=a,b&port=6000"), ["u:@a 6000 d", "u:@b 6000 d"]);
  assert.match(refusal("postgresql://u@/d?host=a,b,c&port=1,2").message, "3 hosts and 2 ports");
  assert.equal(way("postgresql://u@a,b/d?target_session_attrs=prefer-standby"), [
    "u:@a 5432 d standby",
    "u:@b 5432 d standby",
    "u:@a 5432 d",
    "u:@b 5432 d",
  ]);
  const shuffled = new Set<string | undefined>();
  for (let n = 0; n < 100; n++)
    shuffled.add(way("postgresql://u@a,b/d?load_balance_hosts=random")[0]);
  assert.is(shuffled.size, 2);
});

test("sslmode: with and without TLS, in libpq's order", () => {
  const modes = (mode: string) =>
    ways(`postgres://u@h/d${mode}`).map((text) => text.split(" ").at(-1));
  assert.equal(modes(""), ["tls", "plain"]);
  assert.equal(modes("?sslmode=disable"), ["plain"]);
  assert.equal(modes("?sslmode=allow"), ["plain", "tls"]);
  assert.equal(modes("?sslmode=prefer"), ["tls", "plain"]);
  assert.equal(modes("?sslmode=require"), ["tls"]);
  assert.equal(modes("?ssl=true"), ["tls"]);
  assert.equal(modes("?sslmode=no-verify"), ["tls"]);
  assert.equal(ways("postgres:///d?host=/tmp&sslmode=require").length, 1);
  assert.match(ways("postgres:///d?host=/tmp&sslmode=require")[0] as string, /plain$/);
  assert.match(refusal("postgres://h/d?sslmode=always").hint as string, /disable, allow, prefer/);
});

test("certificates: what is verified, and against what", async () => {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-url-test-"));
  const file = join(folder, "root.crt");
  await writeFile(file, "certificate");
  const tls = (query: string) => {
    const [attempt] = readUrl(`postgres://u@h/d?${query}`, nobody).attempts;
    const { rejectUnauthorized, checkServerIdentity, ca } = attempt?.tls ?? {};
    return [rejectUnauthorized, checkServerIdentity === undefined, ca?.toString()];
  };
  assert.equal(tls("sslmode=require"), [false, false, undefined]);
  assert.equal(tls(`sslmode=require&sslrootcert=${file}`), [true, false, "certificate"]);
  assert.equal(tls(`sslmode=verify-ca&sslrootcert=${file}`), [true, false, "certificate"]);
  assert.equal(tls(`sslmode=verify-full&sslrootcert=${file}`), [true, true, "certificate"]);
  assert.equal(tls("sslrootcert=system"), [true, true, undefined]);
  // In the place of channel binding.
  assert.equal(tls("channel_binding=require"), [true, true, undefined]);
  assert.equal(tls(`channel_binding=require&sslmode=require&sslrootcert=${file}`), [
    ...[true, true, "certificate"],
  ]);
  assert.equal(ways("postgres://u@h/d?channel_binding=require").length, 1);
  assert.equal(ways("postgres://u@h/d?channel_binding=prefer").length, 2);
  const unbound = refusal("postgres://u@h/d?channel_binding=require&sslmode=disable");
  assert.match(unbound.message, "channel_binding=require, and for no TLS");
  assert.match(refusal("postgres://h/d?sslmode=verify-full").message, "no certificate to verify");
  assert.match(refusal("postgres://h/d?sslcert=/nowhere").message, "/nowhere, named by sslcert");
  await rm(folder, { recursive: true });
});

test("PG… variables complete a URL, and give way to it", () => {
  const env = {
    ...nobody,
    PGHOST: "eh",
    PGPORT: "1",
    PGUSER: "eu",
    PGPASSWORD: "ep",
    PGDATABASE: "ed",
    PGOPTIONS: "-c a=b",
  };
  assert.equal(way("postgres://", env), ["eu:ep@eh 1 ed -c a=b"]);
  assert.equal(way("postgres://u:p@h:2/d?options=-c%20c%3Dd", env), ["u:p@h 2 d -c c=d"]);
  assert.equal(ways("postgres://u@h/d", { ...nobody, PGSSLMODE: "require" }), ["u:@h 5432 d tls"]);
  const named = readUrl("postgres://h", { ...env, PGAPPNAME: "mine", PGCONNECT_TIMEOUT: "3" });
  assert.is(named.applicationName, "mine");
  assert.is(named.attempts[0]?.timeout, 3);
});

test("a password file, and a service file", async () => {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-url-test-"));
  await writeFile(
    join(folder, ".pgpass"),
    "# ours\nother:5432:d:u:no\nh:5432:d:someone:no\nh:*:d:u:with\\:colon\\\\\n*:*:*:u:last\n",
  );
  const service = join(folder, "services");
  await writeFile(
    service,
    "[other]\nhost=no\n\n# ours\n[mine]\nhost=sh\nport=7\ndbname=sd\nuser=su\n",
  );
  const env = { HOME: folder };
  assert.equal(way("postgres://u@h/d", env), ["u:with:colon\\@h 5432 d"]);
  assert.equal(way("postgres://u@h/e", env), ["u:last@h 5432 e"]);
  assert.equal(way("postgres://u:given@h/d", env), ["u:given@h 5432 d"]);
  assert.equal(way(`postgres://u@h/d?passfile=${folder}/none`, env), ["u:@h 5432 d"]);
  assert.equal(way("postgres:///?service=mine", { ...nobody, PGSERVICEFILE: service }), [
    "su:@sh 7 sd",
  ]);
  assert.equal(way("postgres://h2", { ...nobody, PGSERVICEFILE: service, PGSERVICE: "mine" }), [
    "su:@h2 7 sd",
  ]);
  assert.match(refusal("postgres:///?service=none", env).message, "service none");
  await rm(folder, { recursive: true });
});

test("what tools keep in the URL is ignored, what nobody knows is named", () => {
  const tools = [
    "pgbouncer=true&connection_limit=1&pool_timeout=10&schema=public&statement_cache_size=0",
    "sslmode=require&channel_binding=require",
    "pool=5&prepared_statements=false&encoding=utf8&reaping_frequency=1",
    "workaround=supabase-pooler.vercel&uselibpqcompat=true",
    "keepalives=1&keepalives_idle=5&keepalives_interval=1&tcp_user_timeout=9&gssencmode=disable",
  ];
  for (const query of tools) assert.is(readUrl(`postgres://u@h/d?${query}`, nobody).host, "h");
  const error = refusal("postgres://u:secret@h/d?sslmod=require&aplication_name=x");
  assert.is(
    error.message,
    "DATABASE_URL has parameters that are not known: sslmod, aplication_name.",
  );
  assert.match(refusal("postgres://h/d?gssencmode=require").message, "gssencmode=require");
  assert.match(refusal("postgres://h/d?require_auth=scram-sha-256").message, "not supported");
});

test("what is wrong is said without the password", () => {
  const wrong = {
    "mysql://u:secret@h/d": /is not of the form/,
    secret: /is not of the form/,
    "postgres://u:secret@h:port/d": /port that is not a number/,
    "postgres://u:secret@h:0/d": /port that is not a number/,
    "postgres://u:sec%ret@h/d": /password that is not percent-encoded/,
    "postgres://u:secret@h/d?connect_timeout=soon": /connect_timeout=soon/,
    "postgres://u:secret@h/d?target_session_attrs=best": /target_session_attrs=best/,
  };
  for (const [url, message] of Object.entries(wrong)) {
    const error = refusal(url);
    assert.match(error.message, message);
    assert.not.match(`${error.message} ${error.hint}`, "secret");
  }
});

test.run();
