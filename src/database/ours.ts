/** Which schemas of a database migrate has made, and so may change and remove. */
import type { Queries } from "./connection.js";
import { UserError } from "./errors.js";

/** The schema of the worker's queue. */
export const workerSchema = "rollup_worker";

export const schemas = ["rollup", workerSchema, "graphile_migrate"] as const;

/** The comment by which a schema that migrate made is known again. */
export const mark = "Made by reporting-rollup; removed by reporting-rollup uninstall.";

/** Who reads reports is granted this role. */
export const readerRole = "rollup_reader";

export interface Schema {
  name: (typeof schemas)[number];
  owner: string;
  /** Whether the role that is connected is the owner, or a member of it. */
  owned: boolean;
  /** Whether migrate made it. */
  ours: boolean;
}

/**
 * The schemas of ours, or of the same names, that exist. Version 0.1.0 left no marks: there the history of migrations tells,
 * which it kept to itself. On a worker node of Citus `rollup` is ours in any case, made by Citus for the triggers of shards.
 */
export async function readSchemas(
  sql: Queries,
  hashes: string[],
  onWorkerNode = false,
): Promise<Schema[]> {
  const [history] = await sql<{ found: boolean }[]>`
    select to_regclass('graphile_migrate.migrations') is not null as found`;
  const [unmarked] = history?.found
    ? await sql<{ found: boolean }[]>`
        select coalesce(bool_or(hash = any(${hashes}::text[])), false)
               and obj_description(to_regnamespace('rollup'), 'pg_namespace') is distinct from ${mark} as found
        from graphile_migrate.migrations`
    : [];
  return sql<Schema[]>`
    select nspname as name, quote_ident(pg_get_userbyid(nspowner)) as owner,
           pg_has_role(nspowner, 'usage') as owned,
           ${unmarked?.found ?? false}::boolean
             or coalesce(obj_description(oid, 'pg_namespace') = ${mark}, false)
             or ${onWorkerNode}::boolean and nspname = 'rollup' as ours
    from pg_namespace
    where nspname = any(${schemas}::text[])
    order by array_position(${schemas}::text[], nspname::text)`;
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
