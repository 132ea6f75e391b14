/**
 * What functions are said to be: none is called immutable, stable or parallel safe that uses something which is less so. The planner
 * does not inline functions that are, and takes the others at their word.
 */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect } from "./support/database.js";

const sql = connect();

/** The functions that SQL functions use: their parse trees name them. One whose body is text is parsed as a standard body. */
const usedBySql = `
  select distinct f.oid, u.callee
  from label.sql_function as f
  cross join lateral (
    select m[1]::oid from regexp_matches(f.tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\\d+)', 'g') as m
    union all
    -- A cast by way of text.
    select t.typinput::oid
    from regexp_matches(f.tree, ' :resulttype (\\d+) :resultcollid \\d+ :coerceformat', 'g') as m
    join pg_type as t on t.oid = m[1]::oid
    union all
    -- current_date and its like.
    select 'pg_catalog.now()'::regprocedure where f.tree ~ '\\{SQLVALUEFUNCTION'
  ) as u (callee)`;

/** Those that plpgsql functions name; of several with a name, the one that promises most. */
const usedByPlpgsql = `
  select distinct on (f.oid, p.proname, p.pronamespace) f.oid, p.oid as callee
  from label.plpgsql_function as f
  cross join lateral regexp_matches(f.code, '(?<![\\w.])(rollup\\.|)(\\w+)\\(', 'g') as m
  join pg_proc as p on p.proname = m[2] and p.pronamespace = coalesce(nullif(rtrim(m[1], '.'), ''), 'pg_catalog')::regnamespace
  order by f.oid, p.proname, p.pronamespace, position(p.provolatile in 'isv'), position(p.proparallel in 'sru')`;

const broken = `
  with used as (${usedBySql} union (${usedByPlpgsql}))
  select f.oid::regprocedure || ' uses ' || c.oid::regprocedure as line
  from used as u
  join pg_proc as f on f.oid = u.oid
  join pg_proc as c on c.oid = u.callee
  where position(c.provolatile in 'isv') > position(f.provolatile in 'isv')
    or position(c.proparallel in 'sru') > position(f.proparallel in 'sru')
  union all
  select f.oid::regprocedure || ' writes'
  from label.plpgsql_function as f
  join pg_proc as p on p.oid = f.oid
  where p.provolatile <> 'v' and f.code ~* '\\m(insert into|update|delete from|for (no key )?(update|share))\\M'
  order by 1`;

async function brokenPromises(): Promise<string[]> {
  await sql`drop schema if exists label cascade`;
  await sql`create schema label`;
  await sql.unsafe(`
    create function label.tree(p_function oid) returns text language plpgsql as $body$
    declare
      v_tree text := (select p.prosqlbody::text from pg_proc as p where p.oid = p_function);
    begin
      if v_tree is null then
        execute regexp_replace(
          regexp_replace(
            regexp_replace(pg_get_functiondef(p_function), '^CREATE OR REPLACE FUNCTION rollup\\.\\w+', 'CREATE FUNCTION label.copy'),
            '\\nAS \\$function\\$', E'\\nBEGIN ATOMIC '
          ),
          ';?\\s*\\$function\\$\\s*$', E';\\nEND'
        );
        v_tree := (select p.prosqlbody::text from pg_proc as p where p.proname = 'copy' and p.pronamespace = 'label'::regnamespace);
        drop function label.copy;
      end if;
      return v_tree;
    end
    $body$`);
  await sql`
    create table label.sql_function as
    select p.oid, label.tree(p.oid) as tree
    from pg_proc as p
    join pg_language as l on l.oid = p.prolang
    where p.pronamespace = 'rollup'::regnamespace and l.lanname = 'sql'`;
  // Without comments and string constants.
  await sql`
    create table label.plpgsql_function as
    select p.oid, regexp_replace(p.prosrc, '--[^\n]*|''(?:[^'']|'''')*''', '', 'g') as code
    from pg_proc as p
    join pg_language as l on l.oid = p.prolang
    where p.pronamespace = 'rollup'::regnamespace and l.lanname = 'plpgsql'`;
  const rows = await sql.unsafe<{ line: string }[]>(broken);
  return rows.map(({ line }) => line);
}

test("no function promises more than what it uses keeps", async () => {
  // That one is volatile for no reason: it looks into the catalogs, as others do that are stable.
  // What the other sets is its own: it is as it was when the function returns.
  const lines = (await brokenPromises()).filter(
    (line) =>
      !line.endsWith("uses pg_partition_tree(regclass)") &&
      line !== "rollup.listed_timezone(text) uses set_config(text,text,boolean)",
  );
  assert.equal(lines, []);
  const [found] = await sql<{ functions: number }[]>`
    select (select count(*) from label.sql_function) + (select count(*) from label.plpgsql_function) as functions`;
  assert.ok(Number(found?.functions) > 100);
});

test("broken promises are found, in every kind of body", async () => {
  await sql.unsafe(`
    create function rollup.a_moment() returns timestamptz language sql immutable parallel safe return clock_timestamp();
    create function rollup.a_length(p text) returns interval language sql immutable parallel safe as $$ select p::interval $$;
    create function rollup.a_day() returns date language sql immutable parallel safe return current_date;
    create function rollup.a_block() returns void language plpgsql stable parallel safe as $$
    begin
      perform rollup.a_day();
      perform rollup.lock_wait(); -- not clock_timestamp()
      update rollup.deltas set date = null;
    end $$`);
  const lines = (await brokenPromises()).filter((line) => line.includes("rollup.a_"));
  assert.equal(lines, [
    "rollup.a_block() uses rollup.lock_wait()",
    "rollup.a_block() writes",
    "rollup.a_day() uses now()",
    "rollup.a_length(text) uses interval_in(cstring,oid,integer)",
    "rollup.a_moment() uses clock_timestamp()",
  ]);
});

test.run();
