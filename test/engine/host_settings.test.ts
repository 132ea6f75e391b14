/** The zone of an account is what the host's settings of it say, whoever writes them, and no statement of the host suffers for it. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { migrate } from "../../src/database/migrate.js";
import { uninstall } from "../../src/database/uninstall.js";
import { withSessions } from "../concurrency/support.js";
import type { Sql } from "../support/client.js";
import {
  connect,
  createDatabase,
  database,
  databaseUrl,
  onServer,
  otherDatabase,
} from "../support/database.js";
import {
  assertExactEverywhere,
  insert,
  listening,
  newAccount,
  rollups,
  sqlstate,
  stored,
  untracked,
} from "./support.js";

const sql = database();

/** The statement by which the host sets a zone, or takes it away. */
function setting(account: number, zone: string | null): string {
  return zone === null
    ? `update public.accounts set settings = settings - 'reporting_timezone' where id = ${account}`
    : `update public.accounts set settings = coalesce(settings, '{}') || '{"reporting_timezone": "${zone}"}' where id = ${account}`;
}

/** An account of the host, with that setting from the beginning. */
async function hostAccount(zone?: string, on: Sql = sql): Promise<number> {
  const account = newAccount();
  await on`insert into public.accounts (id, settings) values (${account}, ${zone === undefined ? null : on.json({ reporting_timezone: zone })})`;
  return account;
}

const set = (account: number, zone: string | null, on: Sql = sql) =>
  on.unsafe(setting(account, zone));

async function zoneOf(account: number, on: Sql = sql): Promise<string | null | undefined> {
  const [row] = await on<{ zone: string | null }[]>`
    select reporting_timezone as zone from rollup.account_settings where account_id = ${account}`;
  return row?.zone;
}

async function problemOf(account: number, on: Sql = sql): Promise<string | null | undefined> {
  const [row] = await on`select problem from rollup.account_status where account_id = ${account}`;
  return row?.problem;
}

async function atHost(account: number, on: Sql = sql): Promise<unknown> {
  const [row] = await on`select settings from public.accounts where id = ${account}`;
  return row?.settings;
}

/** What follows when nobody is in the way: returns how many accounts changed. */
async function follow(on: Sql = sql): Promise<number> {
  const [row] = await on`select rollup.follow_host_settings()::int as accounts`;
  return row?.accounts;
}

async function generation(account: number): Promise<string> {
  const [row] =
    await sql`select generation from rollup.account_settings where account_id = ${account}`;
  return row?.generation;
}

// --- Following ------------------------------------------------------------------------------------------

test("set at the host, an event, and rows appear; the worker's backfill brings the history", async () => {
  const account = await hostAccount();
  await insert(sql, account, {});
  await set(account, "America/New_York");
  await insert(sql, account, { created_at: "2026-02-12 04:00:00" });
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 1 1 1`]);
  await sql`select rollup.enqueue_repairs()`;
  const runs = await sql`
    select from_date, to_date, state from rollup.backfill_runs where account_id = ${account}`;
  assert.equal([...runs], [{ from_date: "-infinity", to_date: "infinity", state: "pending" }]);
  await sql`select rollup.backfill(${account})`;
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 2 2 2`]);
  await assertExactEverywhere(account);
});

test("changed, by the name of a zone in Rails, and taken away", async () => {
  const account = await hostAccount("Eastern Time (US & Canada)");
  assert.is(await zoneOf(account), "America/New_York");
  await set(account, "Chennai");
  assert.is(await zoneOf(account), "Asia/Kolkata");
  const before = await generation(account);
  // Another name of the same zone begins nothing anew.
  await set(account, "Asia/Kolkata");
  assert.is(await generation(account), before);
  await sql`update public.accounts set settings = settings || '{"x": 1}', name = 'n' where id = ${account}`;
  assert.is(await generation(account), before);
  await set(account, null);
  assert.is(await zoneOf(account), null);
  await set(account, "  ");
  assert.is(await zoneOf(account), null);
  assert.is(await problemOf(account), null);
  assert.is(await follow(), 0);
});

test("a name that nobody knows switches off, and the status says why", async () => {
  const account = await hostAccount("Asia/Tokyo");
  await set(account, "Mars/Olympus");
  assert.is(await zoneOf(account), null);
  assert.match((await problemOf(account)) ?? "", '"Mars/Olympus"');
  assert.is(await follow(), 0);
  await set(account, "Asia/Tokyo");
  assert.is(await zoneOf(account), "Asia/Tokyo");
  assert.is(await problemOf(account), null);
});

test("a name that the server's time zone data had not yet is followed when it has", async () => {
  const account = await hostAccount("Asia/Tokyo");
  await sql`update rollup.account_settings set reporting_timezone = null where account_id = ${account}`;
  assert.match((await problemOf(account)) ?? "", '"Asia/Tokyo"');
  assert.is(await follow(), 0);
  await sql`select rollup.watch_zone_rules()`;
  assert.is(await follow(), 1);
  assert.is(await zoneOf(account), "Asia/Tokyo");
});

test("no other change calls the function (rule: when)", async () => {
  const account = await hostAccount("UTC");
  const { client, warnings } = listening();
  await client.unsafe("begin");
  await client.unsafe(
    "create or replace function rollup.track_host_setting() returns trigger language plpgsql as $$ begin raise warning 'called'; return null; end $$",
  );
  await client`update public.accounts set name = 'x', settings = settings || '{"y": [1, 2]}' where id = ${account}`;
  await client`update public.accounts set settings = settings, id = id where id = ${account}`;
  const other = newAccount();
  await client`insert into public.accounts (id, settings) values (${other}, '{"reporting_timezone": null}')`;
  await client`update public.accounts set settings = '[1]' where id = ${other}`;
  await client`delete from public.accounts where id = ${other}`;
  assert.equal(warnings, []);
  await set(account, "Asia/Tokyo", client);
  assert.is(warnings.length, 1);
  await client.unsafe("rollback");
  await client.end();
});

test("a deleted account: its zone goes at once, its rows in the background", async () => {
  const account = await hostAccount("UTC");
  await insert(sql, account, { conversation_id: 1, name: "conversation_bot_handoff" });
  await sql`select rollup.backfill(${account})`;
  await sql`delete from public.accounts where id = ${account}`;
  assert.is(await zoneOf(account), null);
  assert.equal(await rollups(account), []);
  const left = () => sql`
    select 'settings' as what from rollup.account_settings where account_id = ${account}
    union all select 'coverage' from rollup.account_coverage where account_id = ${account}
    union all select 'rollups' from rollup.reporting_events_rollups where account_id = ${account}
    union all select 'ledger' from rollup.ledger where account_id = ${account}
    union all select 'run' from rollup.backfill_runs where account_id = ${account}`;
  await withSessions(["read committed"], async (older) => {
    await older.run("select 1 from public.accounts");
    await follow();
    await sql`select rollup.fold(${account})`;
    await follow();
    // He may still write under its last zone.
    assert.ok((await left()).some(({ what }) => what === "settings"));
    await older.run("commit");
  });
  await follow();
  assert.equal([...(await left())], []);
  await sql`insert into public.accounts (id, settings) values (${account}, '{"reporting_timezone": "UTC"}')`;
  assert.is(await zoneOf(account), "UTC");
  await sql`select rollup.backfill(${account})`;
  await assertExactEverywhere(account);
});

test("deleted while triggers do not fire, and one that the host never had", async () => {
  const account = await hostAccount("UTC");
  const ours = newAccount();
  await sql`select rollup.set_reporting_timezone(${ours}, 'Asia/Tokyo')`;
  await untracked((client) => client`delete from public.accounts where id = ${account}`);
  assert.is(await zoneOf(account), "UTC");
  await follow();
  await sql`select rollup.fold(${account})`;
  await follow();
  assert.is(await zoneOf(account), undefined);
  assert.is(await zoneOf(ours), "Asia/Tokyo");
});

test("an account with sealed days keeps its zone, says so, and follows once they are unsealed", async () => {
  const account = await hostAccount("UTC");
  await insert(sql, account, {});
  await sql`select rollup.backfill(${account})`;
  await sql`select rollup.seal(${account}, '2026-02-11')`;
  await set(account, "Asia/Tokyo");
  await follow();
  assert.is(await zoneOf(account), "UTC");
  assert.match((await problemOf(account)) ?? "", /"Asia\/Tokyo".*sealed/);
  await sql`select rollup.unseal(${account})`;
  await follow();
  assert.is(await zoneOf(account), "Asia/Tokyo");
  assert.is(await problemOf(account), null);
});

// --- Setting it here ------------------------------------------------------------------------------------

test("the setter writes where the host keeps it, and what follows from that begins nothing anew", async () => {
  const account = await hostAccount();
  await sql`select rollup.set_reporting_timezone(${account}, 'chennai')`;
  assert.equal(await atHost(account), { reporting_timezone: "Asia/Kolkata" });
  const first = await generation(account);
  const runs = () =>
    sql`select count(*)::int from rollup.backfill_runs where account_id = ${account}`;
  assert.equal([...(await runs())], [{ count: 1 }]);
  assert.equal([...(await sql`select from rollup.dirty_marks where account_id = ${account}`)], []);
  assert.is(await follow(), 0);
  assert.is(await generation(account), first);
  await sql`update public.accounts set settings = '{"a": 1, "reporting_timezone": "Mumbai"}' where id = ${account}`;
  // Another name of it stands there: it stays.
  await sql`select rollup.set_reporting_timezone(${account}, 'Asia/Kolkata')`;
  assert.equal(await atHost(account), { a: 1, reporting_timezone: "Mumbai" });
  assert.is(await generation(account), first);
  await sql`select rollup.set_reporting_timezone(${account}, null)`;
  assert.equal(await atHost(account), { a: 1 });
  assert.is(await zoneOf(account), null);
  await sql`update public.accounts set settings = 'null' where id = ${account}`;
  await sql`select rollup.set_reporting_timezone(${account}, 'UTC')`;
  assert.equal(await atHost(account), { reporting_timezone: "UTC" });
});

test("the setter, while the host has the row: it is the setter who gives up", async () => {
  const account = await hostAccount("UTC");
  await withSessions(["read committed", "read committed"], async (host, setter) => {
    await host.run(`update public.accounts set name = 'x' where id = ${account}`);
    await setter.run("select 1 from public.accounts");
    await setter.run("savepoint s");
    assert.is(
      await sqlstate(setter.sql`select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`),
      "RU006",
    );
    await setter.run("rollback to s");
    await host.run("commit");
    await setter.run(`select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`);
    await setter.run("commit");
  });
  assert.is(await zoneOf(account), "Asia/Tokyo");
});

test("a deadlock of the host and the setter: the host goes on (rule: waits below deadlock_timeout)", async () => {
  const [mine, theirs] = [await hostAccount("UTC"), await hostAccount("UTC")];
  const [host, setter] = [connect(), connect()];
  await host.unsafe(`begin; update public.accounts set name = 'x' where id = ${theirs}`);
  await setter.unsafe(`begin; update public.accounts set name = 'x' where id = ${mine}`);
  const waiting = sqlstate(host`update public.accounts set name = 'y' where id = ${mine}`);
  const [blocked] = await setter`select pg_backend_pid() as pid`;
  for (;;) {
    const found = await sql`
      select from pg_stat_activity where ${blocked?.pid}::int = any(pg_blocking_pids(pid))`;
    if (found.length > 0) break;
  }
  const given = await sqlstate(
    setter`select rollup.set_reporting_timezone(${theirs}, 'Asia/Tokyo')`,
  );
  await setter`rollback`;
  assert.is(await waiting, "00000");
  assert.is(given, "RU006");
  await host`commit`;
  await Promise.all([host.end(), setter.end()]);
});

// --- Harmless -------------------------------------------------------------------------------------------

test("each function that the trigger calls, broken (rule: all code inside the exception block)", async () => {
  const account = await hostAccount("UTC");
  const { client, warnings } = listening();
  const functions = await client<{ name: string; definition: string }[]>`
    select p.proname as name,
      format('create or replace function rollup.%I(%s) returns %s language plpgsql as $$ begin raise %L; end $$', p.proname,
        pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), p.proname || ' is broken') as definition
    from pg_proc as p
    where p.pronamespace = 'rollup'::regnamespace and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype`;
  const blamed = new Set<string>();
  for (const { name, definition } of functions) {
    await client.unsafe("begin");
    await client.unsafe(definition);
    warnings.length = 0;
    await set(account, "Asia/Tokyo", client);
    await client`insert into public.accounts (id, settings) values (-1, '{"reporting_timezone": "UTC"}')`;
    await client`delete from public.accounts where id in (-1, ${account})`;
    if (warnings.length > 0) blamed.add(name);
    await client.unsafe("rollback");
  }
  await client.end();
  for (const name of [
    "host_accounts",
    "remaining_guards",
    "use_guards",
    "setting_timezone",
    "known_timezone",
    "change_timezones",
    "next_generation",
  ]) {
    assert.ok(blamed.has(name), `${name} did not matter`);
  }
});

test("what fails once is not tried again in the transaction, and is followed later", async () => {
  const [first, second] = [await hostAccount("UTC"), await hostAccount("UTC")];
  await sql.unsafe(`
    create or replace function public.refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
    create trigger refuse before update on rollup.account_settings for each row execute function public.refuse()`);
  const { client, warnings } = listening();
  try {
    await client.unsafe("begin");
    for (const account of [first, second]) await set(account, "Asia/Tokyo", client);
    await client.unsafe("commit");
  } finally {
    await client.end();
    await sql`drop trigger refuse on rollup.account_settings`;
  }
  assert.is(warnings.length, 1);
  assert.match(warnings[0] ?? "", "refused");
  assert.is(await follow(), 2);
  assert.is(await zoneOf(second), "Asia/Tokyo");
});

test("a settings row that somebody has locked: nobody waits, and it is followed later (rule: skip locked)", async () => {
  const [account, free] = [await hostAccount("UTC"), await hostAccount("UTC")];
  const { client: host, warnings } = listening({ settings: { lock_timeout: "1ms" } });
  await withSessions(["read committed"], async (other) => {
    await other.run(`select rollup.set_reporting_events_rollup(${account}, true)`);
    await set(account, "Asia/Tokyo", host);
    await untracked((client) => set(free, "Asia/Tokyo", client));
    assert.is(await zoneOf(account), "UTC");
    assert.is(await follow(), 1);
    assert.is(await zoneOf(free), "Asia/Tokyo");
    await other.run("commit");
  });
  await host.end();
  assert.equal(warnings, []);
  assert.is(await follow(), 1);
  assert.is(await zoneOf(account), "Asia/Tokyo");
});

test("a first zone that somebody else is setting: the host waits 50 ms, the others are followed", async () => {
  const [account, free] = [await hostAccount(), await hostAccount()];
  const { client, warnings } = listening({ settings: { lock_timeout: "10s" } });
  await withSessions(["read committed"], async (other) => {
    await other.run(`select rollup.set_write_mode(${account}, 'append')`);
    await set(account, "Asia/Tokyo", client);
    assert.match(warnings.join("\n"), "lock timeout");
    await untracked((replica) => set(free, "Asia/Tokyo", replica));
    assert.is(await follow(), 1);
    assert.is(await zoneOf(free), "Asia/Tokyo");
    await other.run("rollback");
  });
  await client.end();
  await follow();
  assert.is(await zoneOf(account), "Asia/Tokyo");
});

for (const table of ["account_settings", "account_coverage", "dirty_marks"]) {
  test(`rollup.${table} locked: the host goes on, and it is followed later`, async () => {
    const account = await hostAccount();
    const { client, warnings } = listening();
    await withSessions(["read committed"], async (other) => {
      await other.run(`lock table rollup.${table}`);
      await set(account, "Asia/Tokyo", client);
      await other.run("commit");
    });
    await client.end();
    assert.match(warnings.join("\n"), "lock timeout");
    assert.is(await follow(), 1);
    assert.is(await zoneOf(account), "Asia/Tokyo");
  });
}

for (const level of ["repeatable read", "serializable"] as const) {
  test(`${level}: the host commits, and it is followed later (rule: in read committed only)`, async () => {
    const account = await hostAccount("UTC");
    await withSessions([level], async (host) => {
      await host.run("select count(*) from public.accounts");
      // What it does not see must not fail it.
      await sql`select rollup.set_write_mode(${account}, 'append')`;
      await host.run(setting(account, "Asia/Tokyo"));
      await host.run("commit");
      assert.equal(host.warnings, []);
    });
    assert.is(await zoneOf(account), "UTC");
    assert.is(await follow(), 1);
    assert.is(await zoneOf(account), "Asia/Tokyo");
  });
}

test("session_replication_role = replica: nothing fires, and it is followed later", async () => {
  const account = await hostAccount("UTC");
  await untracked((client) => set(account, "Asia/Tokyo", client));
  assert.is(await zoneOf(account), "UTC");
  assert.is(await follow(), 1);
  assert.is(await zoneOf(account), "Asia/Tokyo");
});

test("500 accounts in one transaction: few subtransactions, all followed in the end (rule: few of the guards)", async () => {
  const accounts: number[] = [];
  for (let n = 0; n < 500; n++) accounts.push(newAccount());
  await sql`insert into public.accounts (id) select unnest(${accounts}::int[])`;
  const { client, warnings } = listening();
  await client.begin(async (tx) => {
    await tx`update public.accounts set settings = '{"reporting_timezone": "Asia/Tokyo"}' where id = any(${accounts})`;
    await insert(tx as unknown as Sql, accounts[0] as number, {});
    const [row] = await tx`
      select count(distinct xmin::text)::int as used from rollup.account_settings where account_id = any(${accounts})`;
    assert.ok(row?.used > 5 && row?.used <= 20, `${row?.used} subtransactions`);
  });
  await client.end();
  assert.equal(warnings, []);
  await follow();
  const [row] = await sql`
    select count(*)::int as set from rollup.account_settings
    where account_id = any(${accounts}) and reporting_timezone = 'Asia/Tokyo'`;
  assert.is(row?.set, 500);
});

test("lastval() is the host's, and nothing is notified or queued in its transaction", async () => {
  const client = connect();
  const queued = () =>
    sql`select (select count(*) from rollup_worker.jobs) as jobs, (select count(*) from rollup.backfill_runs) as runs`;
  const before = [...(await queued())];
  const [row] = await client`
    insert into public.accounts (id, settings)
    values (nextval(pg_get_serial_sequence('public.accounts', 'id')) + 100000, '{"reporting_timezone": "UTC"}') returning id`;
  await set(row?.id, "Asia/Tokyo", client);
  const [last] = await client`select lastval() + 100000 as id`;
  assert.is(Number(last?.id), row?.id);
  assert.is(await zoneOf(row?.id), "Asia/Tokyo");
  assert.equal([...(await queued())], before);
  await client.end();
});

test("a transaction that stays open, goes back to a savepoint, and writes events", async () => {
  const account = await hostAccount("UTC");
  await sql`select rollup.backfill(${account})`;
  await withSessions(["read committed", "read committed"], async (host, other) => {
    await host.run("savepoint s");
    await host.run(setting(account, "Asia/Tokyo"));
    await insert(host.sql, account, { created_at: "2026-02-11 17:00:00" });
    await host.run("rollback to s");
    await insert(host.sql, account, { created_at: "2026-02-11 18:00:00" });
    await host.run(setting(account, "America/New_York"));
    await insert(host.sql, account, { created_at: "2026-02-12 04:00:00" });
    await insert(other.sql, account, { created_at: "2026-02-12 04:00:00" });
    await follow(other.sql);
    await other.run("commit");
    await sql`select rollup.fold()`;
    await host.run("commit");
  });
  assert.is(await zoneOf(account), "America/New_York");
  await sql`select rollup.backfill(${account})`;
  await assertExactEverywhere(account);
  assert.equal(await stored(account), [`2026-02-11 account ${account} first_response 3 3 3`]);
});

test("a role without any privilege on our schema, with a hostile search_path", async () => {
  const account = await hostAccount("UTC");
  const role = `host_settings_${account}`;
  const name = new URL(databaseUrl).pathname.slice(1);
  await onServer((server) => server.unsafe(`create role ${role} login password 'secret'`));
  await sql.unsafe(`
    grant select, insert, update, delete on public.accounts to ${role};
    create schema hostile;
    grant usage on schema hostile to ${role};
    create function hostile.btrim(text) returns text language plpgsql as 'begin raise ''mine''; end';
    create function hostile.never(text, text) returns boolean language plpgsql as 'begin raise ''mine''; end';
    create operator hostile.= (leftarg = text, rightarg = text, function = hostile.never)`);
  const { client, warnings } = listening({
    url: otherDatabase(databaseUrl, name, { user: role, password: "secret" }),
  });
  try {
    assert.is(await sqlstate(client`select * from rollup.account_settings`), "42501");
    await client.unsafe("set search_path = hostile, pg_catalog, public");
    await client.unsafe(setting(account, "Chennai"));
    assert.equal(warnings, []);
    assert.is(await zoneOf(account), "Asia/Kolkata");
    await client`delete from public.accounts where id = ${account}`;
    assert.equal(warnings, []);
    assert.is(await zoneOf(account), null);
  } finally {
    await client.end();
    await sql.unsafe(`drop schema hostile cascade; revoke all on public.accounts from ${role}`);
    await onServer((server) => server.unsafe(`drop role ${role}`));
  }
});

test("on another table the function does nothing (rule)", async () => {
  const account = await hostAccount("UTC");
  await sql.unsafe(`
    create table public.mine (id int, settings jsonb);
    create trigger mine after insert on public.mine for each row execute function rollup.track_host_setting()`);
  await sql`insert into public.mine values (${account}, '{"reporting_timezone": "Asia/Tokyo"}')`;
  assert.is(await zoneOf(account), "UTC");
  await sql`drop table public.mine`;
});

// --- Installing -----------------------------------------------------------------------------------------

/** A database with accounts like the host's, before anything of ours is there. */
async function hostDatabase(accounts: string) {
  const other = await createDatabase({ empty: true });
  await other.sql.unsafe(`
    ${accounts};
    create table public.reporting_events (
      id bigserial primary key, name varchar, value float8, value_in_business_hours float8, account_id int, inbox_id int, user_id int,
      conversation_id int, event_start_time timestamp, event_end_time timestamp, created_at timestamp not null default now(),
      updated_at timestamp not null default now()
    )`);
  return other;
}

const accountsTable =
  "create table public.accounts (id bigserial primary key, name varchar, settings jsonb)";

test("settings that are no object: the setter says so, and changes nothing", async () => {
  const account = await hostAccount("Asia/Tokyo");
  for (const odd of ['"text"', "[1]", "7"]) {
    await sql`update public.accounts set settings = ${odd}::text::jsonb where id = ${account}`;
    assert.is(await zoneOf(account), null, odd);
    const setter = () => sql`select rollup.set_reporting_timezone(${account}, 'Europe/Paris')`;
    assert.is(await sqlstate(setter()), "RU016", odd);
    assert.is(await zoneOf(account), null, odd);
  }
});

test("accounts that are a view: nothing of ours runs what is in it", async () => {
  const { sql: on, drop } = await createDatabase();
  try {
    await on.unsafe(`
      drop table public.accounts;
      create function public.strange() returns int language plpgsql as $$ begin raise exception 'run'; end $$;
      create view public.accounts as select public.strange() as id, '{}'::jsonb as settings`);
    const call = (what: string) => sqlstate(on.unsafe(`select * from rollup.${what}`));
    assert.is(await call("timeseries(7, 'reply_time', '2026-01-01', '2026-02-01')"), "RU007");
    assert.is(await call("report_window(7)"), "RU007");
    assert.is(await call("all_accounts(false)"), "00000");
    assert.is(await call("follow_host_settings()"), "00000");
    assert.is(await call("set_reporting_timezone(7, 'Asia/Tokyo')"), "00000");
    assert.is(await call("account_status"), "00000");
  } finally {
    await drop();
  }
});

test("the host's column is not pinned: altered, renamed, dropped, and nothing of the host's fails", async () => {
  const { sql: on, drop } = await createDatabase();
  try {
    const account = await hostAccount("Asia/Tokyo", on);
    await on`alter table public.accounts alter column settings type json using settings::json`;
    await on`update public.accounts set settings = '{"reporting_timezone": "Asia/Kolkata"}'`;
    assert.is(await zoneOf(account, on), "Asia/Tokyo");
    await on`alter table public.accounts rename column settings to preferences`;
    await on`update public.accounts set preferences = null`;
    await on`alter table public.accounts drop column preferences`;
    await on`insert into public.accounts (id) values (${newAccount()})`;
    await on`delete from public.accounts where id = ${account}`;
    await on`select rollup.follow_host_settings()`;
    assert.is(await zoneOf(account, on), "Asia/Tokyo");
    await on`select rollup.set_reporting_timezone(${account}, 'Europe/Paris')`;
    assert.is(await zoneOf(account, on), "Europe/Paris");
  } finally {
    await drop();
  }
});

test("zones that stand there are taken over by the first migrate, their backfills queued; uninstall leaves them", async () => {
  const other = await hostDatabase(`${accountsTable};
    insert into public.accounts (settings) values
      ('{"reporting_timezone": "Asia/Tokyo"}'), ('{"reporting_timezone": "Berlin"}'), ('{"reporting_timezone": "Mars/Olympus"}'), ('{}'), (null);
    insert into public.accounts (id, settings) values (99999999999, '{"reporting_timezone": "UTC"}')`);
  try {
    const lines: string[] = [];
    await migrate(other.url, { current: true, log: (line) => lines.push(line) });
    assert.match(lines.join("\n"), "time zones of 2 accounts");
    const accounts = await other.sql`
      select account_id, reporting_timezone as zone, host_timezone as name from rollup.account_settings order by 1`;
    assert.equal(
      [...accounts],
      [
        { account_id: 1, zone: "Asia/Tokyo", name: "Asia/Tokyo" },
        { account_id: 2, zone: "Europe/Berlin", name: "Berlin" },
        { account_id: 3, zone: null, name: "Mars/Olympus" },
      ],
    );
    const runs = await other.sql`select account_id, state from rollup.backfill_runs order by 1`;
    assert.equal(
      [...runs],
      [
        { account_id: 1, state: "pending" },
        { account_id: 2, state: "pending" },
      ],
    );
    await migrate(other.url, { current: true });
    assert.is((await other.sql`select from rollup.backfill_runs`).length, 2);
    // An id that ours cannot have.
    await other.sql`update public.accounts set settings = '{"reporting_timezone": "Asia/Tokyo"}' where id > 5`;
    await uninstall(other.url);
    assert.equal(await atHost(2, other.sql), { reporting_timezone: "Berlin" });
    assert.is((await other.sql`select from pg_trigger where not tgisinternal`).length, 0);
  } finally {
    await other.drop();
  }
});

for (const [what, accounts] of [
  ["no accounts", "select 1"],
  ["no settings", "create table public.accounts (id int primary key)"],
  ["settings of another type", "create table public.accounts (id int primary key, settings json)"],
  ["ids of another type", "create table public.accounts (id uuid primary key, settings jsonb)"],
  [
    "a partitioned table",
    "create table public.accounts (id int, settings jsonb) partition by list (id)",
  ],
  [
    "a view",
    'create view public.accounts as select 1 as id, \'{"reporting_timezone": "UTC"}\'::jsonb as settings',
  ],
] as const) {
  test(`a host with ${what}: its setting is not followed, ours is the place`, async () => {
    const other = await hostDatabase(accounts);
    try {
      const lines: string[] = [];
      await migrate(other.url, { current: true, log: (line) => lines.push(line) });
      assert.equal(
        lines.filter((line) => line.includes("accounts")),
        [],
      );
      assert.is(await follow(other.sql), 0);
      await other.sql`select rollup.set_reporting_timezone(1, 'Chennai')`;
      assert.is(await zoneOf(1, other.sql), "Asia/Kolkata");
      assert.is(await follow(other.sql), 0);
    } finally {
      await other.drop();
    }
  });
}

test("accounts that are somebody else's: migrate says what is missing and goes on", async () => {
  const other = await hostDatabase("select 1");
  const role = `installer_${newAccount()}`;
  try {
    await onServer((server) => server.unsafe(`create role ${role} login password 'secret'`));
    const admin = connect({ url: other.url, superuser: true });
    await admin.unsafe(`
      ${accountsTable};
      insert into public.accounts (settings) values ('{"reporting_timezone": "UTC"}');
      grant create on database ${other.name} to ${role};
      alter table public.reporting_events owner to ${role}`);
    const url = otherDatabase(databaseUrl, other.name, { user: role, password: "secret" });
    const said = async () => {
      const lines: string[] = [];
      await migrate(url, { current: true, log: (line) => lines.push(line) });
      return lines.filter((line) => line.includes("accounts")).join("\n");
    };
    assert.match(await said(), `the role ${role} may not read it`);
    await admin.unsafe(`grant select on public.accounts to ${role}`);
    assert.match(await said(), `grant trigger on public.accounts to ${role}`);
    const own = connect({ url });
    assert.is(await zoneOf(1, own), "UTC");
    const [warning] = await own`select w from rollup.warnings() as w where w like '%accounts%'`;
    assert.match(warning?.w ?? "", "the worker follows them");
    await admin`update public.accounts set settings = '{"reporting_timezone": "Asia/Tokyo"}'`;
    assert.is(await follow(own), 1);
    assert.is(await sqlstate(own`select rollup.set_reporting_timezone(1, 'UTC')`), "42501");
    await admin.unsafe(`grant trigger on public.accounts to ${role}`);
    assert.is(await said(), "");
    await admin`update public.accounts set settings = '{"reporting_timezone": "Chennai"}'`;
    assert.is(await zoneOf(1, own), "Asia/Kolkata");
    // Of accounts that are hidden it cannot be said whether they are still there.
    await admin.unsafe("alter table public.accounts enable row level security");
    assert.is(await follow(own), 0);
    assert.is(await zoneOf(1, own), "Asia/Kolkata");
    const [hidden] =
      await own`select w from rollup.warnings() as w where w like '%row level security%'`;
    assert.ok(hidden);
    await own.end();
    await admin.end();
  } finally {
    await other.drop();
    await onServer((server) => server.unsafe(`drop role ${role}`));
  }
});

test.run();
