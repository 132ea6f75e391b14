/** Who may read, and that nobody reads with another's rights, through another's functions or less than all. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Sql } from "../support/client.js";
import { connect, createDatabase, database } from "../support/database.js";
import { insertEvents, readerAccount } from "./support.js";

const sql = database();
/** For making roles and being them. */
const superuser = connect({ superuser: true });
const month = "'2026-02-01', '2026-03-01'";

/** What a reader is granted, and no more. */
async function grantReads(on: Sql, role: string): Promise<void> {
  await on`grant usage on schema rollup to ${on(role)}`;
  for (const { name } of await on<{ name: string }[]>`
    select p.oid::regprocedure::text as name from pg_proc as p
    where p.pronamespace = 'rollup'::regnamespace and p.proname in ('timeseries', 'aggregate', 'summary', 'read_plan')`) {
    await on.unsafe(`grant execute on function ${name} to ${role}`);
  }
}

async function refused(on: Sql, statement: string): Promise<{ code: string; text: string }> {
  try {
    await on.unsafe(statement);
  } catch (error) {
    const { code, message, hint } = error as { code: string; message: string; hint?: string };
    return { code, text: `${message}\n${hint ?? ""}` };
  }
  return { code: "00000", text: "" };
}

test("a reader needs four functions, and gets nothing else", async () => {
  const account = await readerAccount("UTC");
  await insertEvents(sql, account, { created_at: "2026-02-11 12:00", user_id: 7 });
  await superuser`create role reports_reader`;
  const reader = connect({ superuser: true });
  try {
    await grantReads(sql, "reports_reader");
    await reader`set role reports_reader`;
    for (const [call, rows] of [
      [`timeseries(${account}, 'avg_resolution_time', ${month})`, 28],
      [`timeseries(${account}, 'bot_handoffs_count', ${month}, 'hour', 'agent', 7)`, 672],
      [`aggregate(${account}, 'resolutions_count', '2026-02-01 12:00', '2026-03-01 12:00')`, 1],
      [`summary(${account}, 'agent', ${month}, p_timezone => 'Asia/Tokyo')`, 1],
      [`read_plan(${account}, ${month})`, 1],
    ] as const) {
      assert.is((await reader.unsafe(`select * from rollup.${call}`)).length, rows, call);
    }
    const [unknown] = [
      await refused(reader, `select rollup.aggregate(987654, 'reply_time', ${month})`),
    ];
    assert.is(unknown?.code, "RU007");
    for (const statement of [
      "select * from public.reporting_events",
      "select * from rollup.reporting_events_rollups",
      "select * from rollup.daily_rollups",
      "select * from rollup.account_status",
      `select rollup.try_lock_account(${account})`,
      `select rollup.event_span(${account})`,
      `select rollup.set_reporting_events_rollup(${account}, false)`,
    ]) {
      assert.is((await refused(reader, statement)).code, "42501", statement);
    }
  } finally {
    await reader.end();
    await superuser`drop owned by reports_reader`;
    await superuser`drop role reports_reader`;
  }
});

test("tenants get their own reports only, through a function that asks who they are", async () => {
  const [mine, other] = [await readerAccount("UTC"), await readerAccount("UTC")];
  await insertEvents(sql, mine, { created_at: "2026-02-11 12:00" });
  await superuser`create role reports_tenant`;
  const tenant = connect({ superuser: true });
  try {
    await sql`create table public.tenants (role name primary key, account_id int not null)`;
    await sql`insert into public.tenants values ('reports_tenant', ${mine})`;
    await sql`
      create function public.my_report(p_metric text, p_since timestamptz, p_until timestamptz)
      returns table (value numeric, count bigint)
      language sql stable security definer set search_path = pg_catalog, pg_temp as $$
        select a.value, a.count
        from public.tenants as t cross join lateral rollup.aggregate(t.account_id, p_metric, p_since, p_until) as a
        where t.role = session_user or t.role = current_setting('role')
      $$`;
    await sql`grant execute on function public.my_report to reports_tenant`;
    await tenant`set role reports_tenant`;
    const [row] = await tenant.unsafe(
      `select * from public.my_report('resolutions_count', ${month})`,
    );
    assert.equal(row, { value: "1", count: "1" });
    assert.is(
      (await refused(tenant, `select rollup.aggregate(${other}, 'resolutions_count', ${month})`))
        .code,
      "42501",
    );
  } finally {
    await tenant.end();
    await sql`drop function public.my_report`;
    await sql`drop table public.tenants`;
    await superuser`drop role reports_tenant`;
  }
});

test("a policy that hides events from the owner of the reads: an error, never a smaller number", async () => {
  const one = await createDatabase();
  const owner = `owner_${one.name}`;
  const admin = connect({ url: one.url, superuser: true });
  const on = connect({ url: one.url, superuser: true });
  try {
    await superuser.unsafe(`create role ${owner}`);
    await admin`select rollup.set_reporting_timezone(1, 'UTC'), rollup.set_reporting_events_rollup(1, true)`;
    await insertEvents(admin, 1, { created_at: "2026-02-11 12:00" });
    await admin.unsafe(`grant all on all tables in schema rollup, public to ${owner}`);
    await admin.unsafe(`grant usage on schema rollup to ${owner}`);
    await admin.unsafe(`grant execute on all functions in schema rollup to ${owner}`);
    await admin.unsafe(`alter table public.reporting_events owner to ${owner}`);
    for (const name of ["timeseries", "aggregate", "summary", "read_plan"]) {
      await admin.unsafe(`alter function rollup.${name} owner to ${owner}`);
    }
    const calls = [
      `timeseries(1, 'resolutions_count', ${month})`,
      `aggregate(1, 'resolutions_count', ${month})`,
      `summary(1, 'account', ${month})`,
      `read_plan(1, ${month})`,
    ];
    await admin`alter table public.reporting_events enable row level security`;
    // Not forced, it is not for the table's owner.
    for (const call of calls)
      assert.is((await refused(on, `select * from rollup.${call}`)).code, "00000", call);
    await admin`alter table public.reporting_events force row level security`;
    for (const call of calls) {
      const { code, text } = await refused(on, `select * from rollup.${call}`);
      assert.is(code, "RU011", call);
      assert.match(text, owner);
      assert.match(text, "bypassrls");
    }
    await admin.unsafe(`alter role ${owner} bypassrls`);
    for (const call of calls)
      assert.is((await refused(on, `select * from rollup.${call}`)).code, "00000", call);
  } finally {
    await on.end();
    await admin.unsafe(`reassign owned by ${owner} to current_user`);
    await admin.unsafe(`drop owned by ${owner}`);
    await superuser.unsafe(`drop role ${owner}`);
    await admin.end();
    await one.drop();
  }
});

/** Operators and functions that are better matches than the system's own, and tell who runs them. */
const traps = `
  create table public.caught (who name, what text);
  grant insert on public.caught to public;
  create function public.trap(text, varchar) returns boolean language plpgsql as
    $$ begin insert into public.caught values (current_user, 'operator'); return true; end $$;
  create function public.trap(varchar, text) returns boolean language plpgsql as
    $$ begin insert into public.caught values (current_user, 'operator'); return true; end $$;
  create operator public.= (leftarg = varchar, rightarg = text, procedure = public.trap);
  create operator public.= (leftarg = text, rightarg = varchar, procedure = public.trap);
  create function public.trap(text, text) returns boolean language plpgsql as
    $$ begin insert into public.caught values (current_user, 'operator'); return $1 operator(pg_catalog.=) $2; end $$;
  create operator public.= (leftarg = text, rightarg = text, procedure = public.trap);
  create operator public.<> (leftarg = text, rightarg = text, procedure = public.trap);
  create function public.trap(int, int) returns boolean language plpgsql as
    $$ begin insert into public.caught values (current_user, 'operator'); return $1 operator(pg_catalog.=) $2; end $$;
  create operator public.= (leftarg = int, rightarg = int, procedure = public.trap);
  create function public.format(text, int) returns text language plpgsql as
    $$ begin insert into public.caught values (current_user, 'format'); return $1; end $$;
  create function public.format(text, text) returns text language plpgsql as
    $$ begin insert into public.caught values (current_user, 'format'); return $1; end $$;
  create function public.jsonb_build_object(text, int) returns jsonb language plpgsql as
    $$ begin insert into public.caught values (current_user, 'jsonb_build_object'); return '{}'; end $$;
  create function public.lower(varchar) returns text language plpgsql as
    $$ begin insert into public.caught values (current_user, 'lower'); return $1; end $$;
  create function public.lower(daterange) returns date language plpgsql as
    $$ begin insert into public.caught values (current_user, 'lower'); return pg_catalog.lower($1); end $$;
  create function public.unnest(datemultirange) returns setof daterange language plpgsql as
    $$ begin insert into public.caught values (current_user, 'unnest'); return query select pg_catalog.unnest($1); end $$;
  create function public.now() returns timestamptz language plpgsql as
    $$ begin insert into public.caught values (current_user, 'now'); return pg_catalog.now(); end $$;
  create function public.date_trunc(text, timestamp) returns timestamp language plpgsql as
    $$ begin insert into public.caught values (current_user, 'date_trunc'); return pg_catalog.date_trunc($1, $2); end $$;
  create function public.round(numeric, int) returns numeric language plpgsql as
    $$ begin insert into public.caught values (current_user, 'round'); return pg_catalog.round($1, $2); end $$;
  create aggregate public.count(anyelement) (sfunc = int8inc_any, stype = int8, initcond = '7');
  create aggregate public.sum(bigint) (sfunc = int8pl, stype = int8, initcond = '7');
  create aggregate public.sum(numeric) (sfunc = numeric_add, stype = numeric, initcond = '7');
`;

/** Calls of functions with arguments that lead somewhere; the others are called with NULLs. */
const withArguments = [
  `timeseries(1, 'avg_resolution_time', ${month})`,
  `timeseries(1, 'avg_resolution_time', ${month}, 'week', 'agent', 7, true, 'asia/calcutta')`,
  `timeseries(1, 'bot_handoffs_count', '2026-02-01 10:00', '2026-03-01 10:00', 'month')`,
  `timeseries(1, 'resolutions_count', ${month}, 'hour')`,
  `aggregate(1, 'resolutions_count', '2026-02-01 10:00', '2026-03-01 10:00')`,
  `aggregate(1, 'bot_handoffs_count', ${month}, 'inbox', 3)`,
  `summary(1, 'agent', ${month})`,
  `read_plan(1, '2026-02-01 10:00', '2026-03-01 10:00', 'bot_handoffs_count', 'month')`,
  `timeseries(1, 'bot_resolution_rate', ${month}, 'week')`,
  `aggregate(1, 'median_resolution_time', ${month})`,
  `aggregate(1, 'unique_resolutions_count', ${month})`,
  `heat_map(1, 'resolutions_count', ${month})`,
  "report_window(1)",
  "find_timezone('europe/oslo')",
  "same_timezone('Asia/Calcutta', 'Asia/Kolkata')",
  "event_span(1)",
  "covered_share(1, 'UTC')",
  "clean_days(1)",
  `fold(1)`,
  `backfill(1)`,
  `set_write_mode(1, 'append')`,
];

test("nothing of a hostile schema public runs, whoever's function or view is used", async () => {
  const one = await createDatabase();
  const on = connect({ url: one.url });
  try {
    await one.sql`select rollup.set_reporting_timezone(1, 'Asia/Kolkata'), rollup.set_reporting_events_rollup(1, true)`;
    await one.sql`select rollup.backfill(1)`;
    const events = ["2026-02-01 11:00", "2026-02-11 12:00", "2026-03-01 09:00"].flatMap(
      (created_at) => [
        { created_at, user_id: 7, inbox_id: 3 },
        { created_at, name: "conversation_bot_handoff", user_id: 7, inbox_id: 3 },
      ],
    );
    await insertEvents(one.sql, 1, ...events);
    await one.sql`select rollup.set_write_mode(1, 'append')`;
    await insertEvents(one.sql, 1, ...events);
    await one.sql`insert into rollup.dirty_marks (account_id, date, marked_at) values (1, '2026-02-20', now())`;
    const before = await read(on);
    const calls = [...withArguments, ...(await otherCalls(one.sql))];
    await one.sql.unsafe(traps);
    await on`set search_path = public, pg_catalog`;
    assert.equal(await caught(one.sql), []);
    // They would catch whoever does not look away.
    await on.unsafe("select format('%s', 1) as text");
    assert.is((await caught(one.sql)).length, 1);
    await one.sql`truncate public.caught`;

    assert.equal(await read(on), before);
    for (const call of calls) {
      const { code, text } = await refused(on, `select * from rollup.${call}`);
      assert.not.match(code, /^42883|^42725|^42P01/, `${call}: ${text}`);
      assert.equal(await caught(one.sql), [], call);
    }
  } finally {
    await on.end();
    await one.drop();
  }
});

/** All that can be read: with traps about, it must say the same. */
async function read(on: Sql): Promise<unknown[]> {
  const answers = [];
  for (const relation of [
    "daily_rollups order by account_id, date, dimension_type, dimension_id, metric",
    "account_status",
    "event_metrics",
    "report_metrics",
    "daily_metrics order by account_id, date, dimension_type, dimension_id, metric",
    "daily_summary order by account_id, date, dimension_type, dimension_id",
    ...withArguments.slice(0, 12),
  ]) {
    answers.push([...(await on.unsafe(`select * from rollup.${relation}`))]);
  }
  return answers;
}

async function caught(on: Sql): Promise<unknown[]> {
  return [...(await on`select distinct who, what from public.caught`)];
}

/** Every function of ours that can be called by itself, with NULLs. Others are parts of those, and parsed as they call them. */
async function otherCalls(on: Sql): Promise<string[]> {
  const rows = await on<{ call: string }[]>`
    select format(
      '%I(%s)', p.proname,
      (
        select string_agg(format('null::%s', format_type(a.type, null)), ', ' order by a.position)
        from unnest(p.proargtypes::oid[]) with ordinality as a (type, position)
      )
    ) as call
    from pg_proc as p
    where p.pronamespace = 'rollup'::regnamespace and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
      and (p.proconfig is not null or p.prosqlbody is not null)
      and p.proargtypes::oid[] <@ array(select t.oid from pg_type as t where t.typtype <> 'p')
    order by p.oid::regprocedure::text`;
  assert.ok(rows.length > 50);
  return rows.map(({ call }) => call);
}

test("every function is parsed once and for all, or sets its search_path, or is part of one that does", async () => {
  const unpinned = sql`
    select p.oid from pg_proc as p
    where p.pronamespace = 'rollup'::regnamespace and p.prosqlbody is null
      and not coalesce(p.proconfig, '{}') @> '{"search_path=pg_catalog, pg_temp"}'`;
  const others = await sql`
    select p.oid::regprocedure::text as name from pg_proc as p join pg_language as l on l.oid = p.prolang
    where p.oid in (${unpinned}) and l.lanname <> 'sql'
      -- Of the trigger, for which setting it once more would take as long as all else.
      and p.proname <> 'apply_event'`;
  assert.equal([...others], []);
  // A view, or a function that is parsed already, calls them with the search_path of its reader.
  const callers = await sql`
    select pg_describe_object(d.classid, d.objid, 0) as caller, d.refobjid::regprocedure::text as called
    from pg_depend as d
    where d.refclassid = 'pg_proc'::regclass and d.refobjid in (${unpinned}) and d.classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass)`;
  assert.equal([...callers], []);
});

test("nothing of ours depends on anything of the host's, triggers apart", async () => {
  const rows = await sql`
    select distinct pg_describe_object(d.classid, d.objid, d.objsubid) as ours, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) as theirs
    from pg_depend as d
    join pg_class as c on d.refclassid = 'pg_class'::regclass and c.oid = d.refobjid
    where c.relnamespace = 'public'::regnamespace
      and d.classid <> 'pg_trigger'::regclass
      and (
        exists (select from pg_proc as p where d.classid = 'pg_proc'::regclass and p.oid = d.objid and p.pronamespace = 'rollup'::regnamespace)
        or exists (
          select from pg_class as o
          where d.classid = 'pg_class'::regclass and o.oid = d.objid and o.relnamespace = 'rollup'::regnamespace
        )
        or exists (
          select from pg_rewrite as r join pg_class as o on o.oid = r.ev_class
          where d.classid = 'pg_rewrite'::regclass and r.oid = d.objid and o.relnamespace = 'rollup'::regnamespace
        )
      )
    union all
    -- The row types of its tables, as arguments and results.
    select p.oid::regprocedure::text, t.typname
    from pg_proc as p cross join unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]) || p.prorettype) as a (type)
    join pg_type as t on t.oid = a.type
    where p.pronamespace = 'rollup'::regnamespace and t.typnamespace = 'public'::regnamespace`;
  assert.equal([...rows], []);
});

test("the host makes its ids bigger: reads are right at once, and status is there", async () => {
  const one = await createDatabase();
  const on = connect({ url: one.url });
  try {
    await one.sql`select rollup.set_reporting_timezone(1, 'UTC'), rollup.set_reporting_events_rollup(1, true)`;
    await one.sql`select rollup.backfill(1)`;
    await insertEvents(one.sql, 1, { created_at: "2026-02-11 12:00", user_id: 7 });
    const questions = [
      "aggregate(1, 'avg_resolution_time', '2026-02-11 10:00', '2026-02-11 13:00')",
      `summary(1, 'agent', ${month}, p_timezone => 'Asia/Tokyo')`,
      `timeseries(1, 'resolutions_count', ${month}, 'month')`,
      "account_status",
    ];
    const answers = async () => {
      const rows = [];
      for (const asked of questions)
        rows.push([...(await on.unsafe(`select * from rollup.${asked}`))]);
      return rows;
    };
    const before = await answers();
    assert.equal(before[0], [{ value: "1", count: "1" }]);
    await one.sql`
      alter table public.reporting_events
        alter account_id type bigint, alter user_id type bigint, alter conversation_id type bigint, alter name type text`;
    assert.equal(await answers(), before);
  } finally {
    await on.end();
    await one.drop();
  }
});

test.run();
