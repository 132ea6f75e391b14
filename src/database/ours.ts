/** Which schemas of a database migrate has made, and so may change and remove. */
import type { Queries } from "./connection.js";
import { UserError } from "./errors.js";

/** The schema of the worker's queue. */
export const workerSchema = "rollup_worker";

export const schemas = ["rollup", workerSchema, "graphile_migrate"] as const;

/** The comment by which a schema that migrate made is known again. */
export const mark = "Made by reporting-rollup; removed by reporting-rollup uninstall.";

export interface Schema {
  name: (typeof schemas)[number];
  owner: string;
  /** Whether the role that is connected is the owner, or a member of it. */
  owned: boolean;
  /** Whether migrate made it. */
  ours: boolean;
}

/**
 * The schemas of ours, or of the same names, that exist. Version 0.1.0 left no mark: there the history of migrations tells, which
 * it kept to itself.
 */
export async function readSchemas(sql: Queries, hashes: string[]): Promise<Schema[]> {
  const [history] = await sql<{ found: boolean }[]>`
    select to_regclass('graphile_migrate.migrations') is not null as found`;
  const [own] = history?.found
    ? await sql<{ all: boolean; any: boolean }[]>`
        select coalesce(bool_and(hash = any(${hashes}::text[])), false) as all,
               coalesce(bool_or(hash = any(${hashes}::text[])), false) as any
        from graphile_migrate.migrations`
    : [];
  return sql<Schema[]>`
    select n.nspname as name, pg_get_userbyid(n.nspowner) as owner,
           pg_has_role(n.nspowner, 'usage') as owned,
           coalesce(obj_description(n.oid, 'pg_namespace') = ${mark}, false)
             or case when n.nspname = 'graphile_migrate' then ${own?.all ?? false}::boolean else ${own?.any ?? false}::boolean end as ours
    from pg_namespace as n
    where n.nspname = any(${schemas}::text[])
    order by array_position(${schemas}::text[], n.nspname::text)`;
}

/** Throws a `UserError` if `rollup` or the queue's schema is somebody else's. */
export function refuseForeign(found: Schema[]): void {
  const foreign = found.filter(({ name, ours }) => name !== "graphile_migrate" && !ours);
  if (foreign.length === 0) return;
  const names = foreign.map(({ name, owner }) => `${name} (of ${owner})`).join(", ");
  throw new UserError(`There is a schema that reporting-rollup did not make: ${names}.`, {
    hint: "Nothing was changed. Rename that schema, or use another database.",
  });
}
