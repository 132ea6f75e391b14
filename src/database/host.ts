/** The host's table: what we need of it, checked before anything is written. */
import type { Queries } from "./connection.js";
import { UserError } from "./errors.js";

const text = ["character varying", "text"];
const integer = ["integer", "bigint"];
const duration = ["double precision"];
const timestamp = ["timestamp without time zone"];

/** The columns we read of the host's table, and the types each may have. */
const hostColumns: Record<string, string[]> = {
  id: integer,
  name: text,
  value: duration,
  value_in_business_hours: duration,
  account_id: integer,
  inbox_id: integer,
  user_id: integer,
  conversation_id: integer,
  created_at: timestamp,
};

/** Whether the host's table exists; throws a `UserError` when it does not fit, or is missing and not to be made. */
export async function requireHostTable(sql: Queries, create: boolean): Promise<boolean> {
  const [table] = await sql<{ relkind: string }[]>`
    select relkind from pg_class where oid = to_regclass('public.reporting_events')`;
  if (table !== undefined) {
    await checkHostTable(sql, table.relkind);
    return true;
  }
  if (!create) throw await missing(sql);
  return false;
}

/** What is there instead. */
async function missing(sql: Queries): Promise<UserError> {
  const [found] = await sql<
    { database: string; elsewhere: string | null; tables: string | null; more: boolean }[]
  >`
    select current_database() as database,
           (select string_agg(format('%I.%I', n.nspname, c.relname), ', ')
            from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
            where c.relname = 'reporting_events' and c.relkind in ('r', 'p', 'v', 'm', 'f')) as elsewhere,
           (select string_agg(t.relname, ', ' order by t.relname)
            from (select relname::text from pg_class
                  where relnamespace = to_regnamespace('public') and relkind in ('r', 'p', 'v', 'm', 'f')
                  order by 1 limit 10) as t) as tables,
           (select count(*) > 10 from pg_class
            where relnamespace = to_regnamespace('public') and relkind in ('r', 'p', 'v', 'm', 'f')) as more`;
  const tables = found?.tables
    ? `Schema public has: ${found.tables}${found.more ? ", …" : ""}.`
    : "Schema public has no table.";
  return new UserError(
    `There is no table public.reporting_events in database ${found?.database}.`,
    {
      detail: found?.elsewhere ? `There is ${found.elsewhere}.` : tables,
      hint:
        "Nothing was changed. DATABASE_URL must lead to the host's database, where its table is in schema public. " +
        "For a database to try the rollups on: reporting-rollup migrate --create-host-tables",
    },
  );
}

async function checkHostTable(sql: Queries, relkind: string): Promise<void> {
  if (!["r", "p"].includes(relkind)) {
    throw new UserError("public.reporting_events is not a table.", {
      hint: "The triggers need the table that the host writes its events to.",
    });
  }
  const columns = await sql<{ name: string; type: string }[]>`
    select attname as name,
           case attgenerated when 'v' then 'a virtual column, which triggers do not see' else format_type(atttypid, null) end as type
    from pg_attribute
    where attrelid = 'public.reporting_events'::regclass and attnum > 0 and not attisdropped`;
  const types = new Map(columns.map(({ name, type }) => [name, type]));
  const problems = Object.entries(hostColumns)
    .filter(([name, expected]) => !expected.includes(types.get(name) ?? ""))
    .map(([name, expected]) => {
      const found = types.has(name) ? `is ${types.get(name)}` : "is missing";
      return `${name} ${found}, expected ${expected.join(" or ")}`;
    });
  if (problems.length === 0) return;
  throw new UserError(`public.reporting_events does not fit: ${problems.join("; ")}.`, {
    hint: "Nothing was changed. Give the columns these names and types, then run migrate again.",
  });
}
