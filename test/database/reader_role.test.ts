/** The role rollup_reader, on a server of its own, for roles are the whole server's; and the queries of docs/bi.md as that role. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { migrate } from "../../src/database/migrate.js";
import { uninstall } from "../../src/database/uninstall.js";
import { cli } from "../support/cli.js";
import { connect, type Sql } from "../support/client.js";
import { otherDatabase, postgresMajor } from "../support/database.js";
import { startTestServer, type TestServer, template } from "../support/server.js";

const roles = suite("the role rollup_reader");
let server: TestServer;
let superuser: Sql;
let made = 0;
const clients: Sql[] = [];

roles.before(async () => {
  server = await startTestServer(String(postgresMajor));
  await server.run(`drop database ${template}`);
  superuser = client(await server.url("postgres", "superuser"));
  await superuser`drop role if exists rollup_reader`;
  await superuser`create role plain login password 'p'`;
  await superuser`create role maker login createrole password 'p'`;
});

roles.after(async () => {
  for (const client of clients.splice(0)) await client.end({ timeout: 1 });
  await server.stop();
});

roles.after.each(async () => {
  for (const {
    datname,
  } of await superuser`select datname from pg_database where datname like 'own_%'`)
    await superuser.unsafe(`drop database ${datname} with (force)`);
  await superuser`drop role if exists app`;
  await superuser`drop role if exists rollup_reader`;
});

function client(url: string): Sql {
  const made = connect(url, { max: 1 });
  clients.push(made);
  return made;
}

/** An installation in a database of this role's, and the lines that migrate wrote. */
async function installed(user: "plain" | "maker"): Promise<{ url: string; lines: string[] }> {
  const name = `own_${++made}`;
  await superuser.unsafe(`create database ${name} owner ${user}`);
  const url = otherDatabase(await server.url(name, "superuser"), name, { user, password: "p" });
  const lines: string[] = [];
  await migrate(url, { createHostTables: true, log: (line) => lines.push(line) });
  return { url, lines };
}

async function exists(): Promise<boolean> {
  return (await superuser`select from pg_roles where rolname = 'rollup_reader'`).length > 0;
}

/** Fills an account and logs in as somebody who is granted the role. */
async function reader(url: string): Promise<{ on: Sql; url: string; drop(): Promise<void> }> {
  const owner = client(url);
  await owner`select rollup.set_reporting_timezone(1, 'UTC'), rollup.set_reporting_events_rollup(1, true)`;
  await owner`
    insert into public.reporting_events (name, value, value_in_business_hours, account_id, user_id, inbox_id, conversation_id, created_at, updated_at)
    select n, i, i / 2.0, 1, 7, 3, i, timestamp '2026-02-01' + i * interval '5 hours', now()
    from unnest(rollup.event_names()) as n, generate_series(1, 100) as i`;
  await owner`select rollup.backfill(1)`;
  await owner`select rollup.set_write_mode(1, 'append')`;
  await owner`
    insert into public.reporting_events (name, value, account_id, user_id, inbox_id, conversation_id, created_at, updated_at)
    values ('conversation_bot_handoff', 1, 1, 7, 3, 500, '2026-02-02', now()), ('reply_time', null, 1, 7, 3, 500, '2026-02-02', now())`;
  await superuser`create role app login password 'p' in role rollup_reader`;
  const own = otherDatabase(url, new URL(url).pathname.slice(1), { user: "app", password: "p" });
  return {
    on: client(own),
    url: own,
    drop: async () => void (await superuser`drop role app`),
  };
}

async function code(on: Sql, statement: string): Promise<string> {
  return on.unsafe(statement).then(
    () => "00000",
    (error) => error.code,
  );
}

const february = "'2026-02-01', '2026-03-01'";

async function assertReadsOnly(owner: Sql, on: Sql): Promise<void> {
  for (const read of [
    "daily_metrics",
    "daily_summary",
    "report_metrics",
    `timeseries(1, 'median_reply_time', ${february})`,
    `aggregate(1, 'bot_handoff_rate', ${february})`,
    `summary(1, 'agent', ${february})`,
    `heat_map(1, 'resolutions_count', ${february})`,
    `read_plan(1, ${february})`,
  ]) {
    const rows = await on.unsafe(`select * from rollup.${read}`);
    assert.ok(rows.length > 0, read);
  }
  const refused = await owner<{ statement: string }[]>`
    select 'select * from ' || c.oid::regclass as statement
    from pg_class as c
    where c.relnamespace in ('rollup'::regnamespace, 'public'::regnamespace, 'rollup_worker'::regnamespace, 'graphile_migrate'::regnamespace)
      and c.relkind in ('r', 'p', 'v', 'm') and c.relname not in ('daily_metrics', 'daily_summary', 'report_metrics')`;
  assert.ok(refused.length > 12);
  for (const { statement } of refused) assert.is(await code(on, statement), "42501", statement);
  // Of what reads or writes tables: the reads.
  const callable = await owner<{ name: string }[]>`
    select p.proname as name from pg_proc as p
    where p.pronamespace in ('rollup'::regnamespace, 'rollup_worker'::regnamespace) and p.provolatile <> 'i'
      and has_schema_privilege('app', p.pronamespace, 'usage') and has_function_privilege('app', p.oid, 'execute')
    order by 1`;
  assert.equal(
    callable.map(({ name }) => name),
    ["aggregate", "heat_map", "read_metric", "read_plan", "report_window", "summary", "timeseries"],
  );
  for (const call of [
    "backfill(1)",
    "set_reporting_events_rollup(1, false)",
    "fold()",
    "repair(1)",
    "verify(1)",
    "clean_days(1)",
  ])
    assert.is(await code(on, `select rollup.${call}`), "42501", call);
}

roles("reads reports and nothing else, after an upgrade that adds functions too", async () => {
  const { url, lines } = await installed("maker");
  assert.equal(
    lines.filter((line) => line.includes("rollup_reader")),
    [],
  );
  const { on, drop } = await reader(url);
  const owner = client(url);
  await assertReadsOnly(owner, on);
  // What an upgrade may do: other functions and tables, others gone; and what somebody granted by hand.
  await owner.unsafe(`
    create function rollup.further() returns int language sql volatile return 1;
    create table rollup.further_table (id int);
    grant select on rollup.ledger to rollup_reader;
    grant execute on function rollup.fold to rollup_reader;
    drop function rollup.heat_map; drop view rollup.daily_summary;
    alter default privileges in schema rollup grant execute on functions to rollup_reader`);
  await migrate(url, { createHostTables: true });
  await assertReadsOnly(owner, on);
  // It is not ours, so it is gone.
  assert.is(await code(on, "select rollup.further()"), "42883");
  await drop();
});

roles("the views have what the reads have", async () => {
  const { url } = await installed("maker");
  const { on, drop } = await reader(url);
  for (const [metric, name] of [
    ["first_response", "avg_first_response_time"],
    ["resolution_time", "avg_resolution_time"],
    ["reply_time", "reply_time"],
    ["bot_handoffs_count", "bot_handoffs_count"],
  ] as const) {
    const differ = await on`
      with day as (select d.* from rollup.daily_metrics as d where d.account_id = 1 and d.metric = ${metric} and d.dimension_type = 'agent')
      select d.date, t.period_start::date, d.count, t.count, d.average, t.value
      from day as d
      full join (
        select * from rollup.timeseries(1, ${name}, '2026-02-01', '2026-03-01', 'day', 'agent', 7) as s where s.count > 0
      ) as t on t.period_start::date = d.date
      where d.count is distinct from t.count or coalesce(d.average, d.count) is distinct from coalesce(t.value, t.count)`;
    assert.equal([...differ], [], name);
  }
  const [wide] = await on`
    select * from rollup.daily_summary where account_id = 1 and date = '2026-02-02' and dimension_type = 'inbox'`;
  assert.equal(
    { ...wide },
    {
      account_id: 1,
      date: "2026-02-02",
      dimension_type: "inbox",
      dimension_id: "3",
      resolutions_count: "5",
      bot_resolutions_count: "5",
      bot_handoffs_count: "6",
      avg_resolution_time: "7",
      avg_first_response_time: "7",
      avg_reply_time: "7",
      avg_resolution_time_business_hours: "3.5",
      avg_first_response_time_business_hours: "3.5",
      avg_reply_time_business_hours: "3.5",
    },
  );
  await drop();
});

roles("the queries of docs/bi.md, and the command report", async () => {
  const { url } = await installed("maker");
  const { on, url: own, drop } = await reader(url);
  const text = await readFile(resolve(import.meta.dirname, "../../docs/bi.md"), "utf8");
  const queries = [...text.matchAll(/```sql\n([^`]+)```/g)].map(([, query]) => query as string);
  assert.is(queries.length, 10);
  for (const query of queries) {
    const filled = query
      .replaceAll(
        "$__timeFilter(date)",
        "date between '2026-02-01T00:00:00Z' and '2026-02-28T23:59:59Z'",
      )
      .replaceAll("$__timeFrom()", "'2026-02-01T00:00:00Z'")
      .replaceAll("$__timeTo()", "'2026-02-28T23:59:59Z'")
      .replaceAll("$account", "1")
      .replaceAll(/\[\[|\]\]/g, "")
      .replaceAll("{{date}}", "rollup.daily_x.date between date '2026-02-01' and date '2026-02-28'")
      .replaceAll("{{account_id}}", "1")
      .replaceAll("{{agent_id}}", "7")
      .replaceAll("{{metric_text}}", "'p90_reply_time'")
      .replaceAll("{{since_date}}", "date '2026-02-01'")
      .replaceAll("{{until_date}}", "date '2026-03-01'")
      .replaceAll("{{ from_dttm }}", "2026-02-01 00:00:00")
      .replaceAll("{{ to_dttm }}", "2026-03-01 00:00:00");
    const view = /rollup\.(daily_\w+)/.exec(query)?.[1] ?? "";
    const rows = await on.unsafe(filled.replaceAll("daily_x", view));
    assert.ok(rows.length > 0, query);
  }
  const { code, stderr } = await cli(
    ["report", "1", "--metric", "median_reply_time", "--since", "2026-02-01"],
    {
      env: { DATABASE_URL: own },
    },
  );
  assert.is(code, 0, stderr);
  await drop();
});

roles("without the right to create roles: installs, and says what to run", async () => {
  const { url, lines } = await installed("plain");
  assert.is(lines.length, 1);
  assert.match(
    lines[0] ?? "",
    /plain may not create one\..*create role rollup_reader; and then migrate again/,
  );
  assert.not(await exists());
  await superuser`create role rollup_reader`;
  await migrate(url, { log: (line) => lines.push(line) });
  assert.is(lines.length, 1);
  const { on, drop } = await reader(url);
  await assertReadsOnly(client(url), on);
  await drop();
  // Somebody else's role stays.
  const left: string[] = [];
  assert.not((await uninstall(url, { log: (line) => left.push(line) })).includes("rollup_reader"));
  assert.equal(left, ["The role rollup_reader stays: somebody else made it."]);
  assert.ok(await exists());
});

roles("uninstall drops the role that migrate made, unless somebody needs it", async () => {
  const first = await installed("maker");
  const second = await installed("maker");
  const left: string[] = [];
  const log = (line: string) => left.push(line);
  // Granted to somebody.
  await superuser`create role app in role rollup_reader`;
  assert.not((await uninstall(first.url, { log })).includes("rollup_reader"));
  assert.match(left.pop() ?? "", "stays: it is granted to app");
  await superuser`drop role app`;
  // Needed by the second database.
  await migrate(first.url);
  assert.not((await uninstall(first.url, { log })).includes("rollup_reader"));
  assert.match(left.pop() ?? "", /stays: .*cannot be dropped because some objects depend on it/);
  assert.ok(await exists());
  assert.equal(await uninstall(second.url, { log }), [
    "rollup",
    "rollup_worker",
    "graphile_migrate",
    "rollup_reader",
  ]);
  assert.not(await exists());
  assert.equal(left, []);
});

roles.run();
