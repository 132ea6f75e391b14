/**
 * Installs and updates everything in a database: the history in migrations/ once, graphile-worker's own
 * migrations, and the present in sql/ every time.
 */
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import graphileMigrate from "graphile-migrate";
import { clearAllPools } from "graphile-migrate/dist/pgReal.js";
import graphileWorker from "graphile-worker";
import type { TransactionSql } from "postgres";
import { open, type Sql } from "./connection.js";
import { errorCode, UserError } from "./errors.js";

const packageRoot = fileURLToPath(new URL("../..", import.meta.url));

/** The schema of the worker's queue. */
export const workerSchema = "rollup_worker";

/** The files of sql/, in the order in which they are applied: each may use what those before it define. */
export async function sqlFiles(root = packageRoot): Promise<string[]> {
  return (await readdir(`${root}/sql`)).filter((name) => name.endsWith(".sql")).sort();
}

export interface MigrateOptions {
  /** Receives a line for everything worth telling. */
  log?: (line: string) => void;
  /** How long to wait for others' locks, in milliseconds. */
  patience?: number;
  /** The folder with migrations/ and sql/. */
  root?: string;
  /** Also run migrations/current.sql, which is still being written. For tests during development. */
  current?: boolean;
}

export interface MigrateResult {
  server_version: string;
  host_tables: "found" | "created";
  migrations: number;
  sql_files: number;
}

type Settled = Required<MigrateOptions>;

/** Brings the database to the state of this version. Safe to repeat, to interrupt and to run twice at once. */
export async function migrate(url: string, options: MigrateOptions = {}): Promise<MigrateResult> {
  const settled: Settled = {
    log: options.log ?? (() => {}),
    patience: options.patience ?? 300_000,
    root: options.root ?? packageRoot,
    current: options.current ?? false,
  };
  const sources = await readSources(settled);
  const migrations = await readMigrations(settled.root);
  const sql = await open(url, { applicationName: "reporting-rollup migrate", onNotice: () => {} });
  try {
    return await oneAtATime(sql, settled, async () => {
      const found = await checkHostTable(sql);
      await checkHistory(sql, migrations);
      await runMigrations(url, settled);
      await graphileWorker.runMigrations({ connectionString: url, schema: workerSchema, logger });
      await applySources(sql, sources, settled);
      const [server] = await sql<{ version: string }[]>`
        select current_setting('server_version') as version`;
      return {
        server_version: server?.version ?? "",
        host_tables: found ? "found" : "created",
        migrations: migrations.length,
        sql_files: sources.length,
      };
    });
  } finally {
    await sql.end();
  }
}

// --- What is to be installed ----------------------------------------------------------------------------

interface Source {
  name: string;
  text: string;
}

async function readSources({ root }: Settled): Promise<Source[]> {
  const names = ["host/tables.sql", ...(await sqlFiles(root))];
  return Promise.all(
    names.map(async (name) => ({ name, text: await readFile(`${root}/sql/${name}`, "utf8") })),
  );
}

interface Migration {
  filename: string;
  hash: string;
}

async function readMigrations(root: string): Promise<Migration[]> {
  const folder = `${root}/migrations/committed`;
  const names = (await readdir(folder)).filter((name) => /^\d+.*\.sql$/.test(name)).sort();
  return Promise.all(
    names.map(async (name) => {
      const text = await readFile(`${folder}/${name}`, "utf8");
      return { filename: name, hash: /^--! Hash: (\S+)/m.exec(text)?.[1] ?? "" };
    }),
  );
}

/** The hashes by which graphile-migrate remembers our migrations. */
export async function ownMigrations(root = packageRoot): Promise<string[]> {
  return (await readMigrations(root)).map(({ hash }) => hash);
}

// --- Checks, before anything is written -----------------------------------------------------------------

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

/** Whether the host's table exists; throws a `UserError` that names every column which does not fit. */
async function checkHostTable(sql: Sql): Promise<boolean> {
  const [table] = await sql<{ relkind: string }[]>`
    select relkind from pg_class where oid = to_regclass('public.reporting_events')`;
  if (table === undefined) return false;
  if (!["r", "p"].includes(table.relkind)) {
    throw new UserError("public.reporting_events is not a table.", {
      hint: "The triggers need the table that the host writes its events to.",
    });
  }
  const columns = await sql<{ name: string; type: string }[]>`
    select attname as name, format_type(atttypid, null) as type
    from pg_attribute
    where attrelid = 'public.reporting_events'::regclass and attnum > 0 and not attisdropped`;
  const types = new Map(columns.map(({ name, type }) => [name, type]));
  const problems = Object.entries(hostColumns)
    .filter(([name, expected]) => !expected.includes(types.get(name) ?? ""))
    .map(([name, expected]) => {
      const found = types.has(name) ? `is ${types.get(name)}` : "is missing";
      return `${name} ${found}, expected ${expected.join(" or ")}`;
    });
  if (problems.length === 0) return true;
  throw new UserError(`public.reporting_events does not fit: ${problems.join("; ")}.`, {
    hint: "Nothing was changed. Give the columns these names and types, then run migrate again.",
  });
}

/** graphile-migrate goes by file names alone: another project's history would hide ours from it. */
async function checkHistory(sql: Sql, migrations: Migration[]): Promise<void> {
  const [table] = await sql<{ found: boolean }[]>`
    select to_regclass('graphile_migrate.migrations') is not null as found`;
  if (!table?.found) return;
  const known = migrations.map(({ hash }) => hash);
  const foreign = await sql<{ filename: string }[]>`
    select filename from graphile_migrate.migrations where hash <> all(${known}::text[]) order by 1`;
  if (foreign.length === 0) return;
  const names = foreign.map(({ filename }) => filename).join(", ");
  throw new UserError(`graphile_migrate.migrations holds migrations we do not know: ${names}.`, {
    hint:
      "A newer reporting-rollup has migrated this database: use that one. " +
      "Or another project keeps its own graphile-migrate history here: that cannot be shared.",
  });
}

// --- One after the other --------------------------------------------------------------------------------

const migrating = 7_316_180_230;
const graphileMigrating = "Failed to get exclusive lock";

/** Runs `work` while no other migrate runs on this database. */
async function oneAtATime<T>(sql: Sql, settled: Settled, work: () => Promise<T>): Promise<T> {
  const guard = await sql.reserve();
  try {
    await patiently(settled, async () => {
      const [lock] = await guard<{ taken: boolean }[]>`
        select pg_try_advisory_lock(${migrating}) as taken`;
      return lock?.taken ? undefined : "another migrate on this database";
    });
    return await work();
  } finally {
    await guard`select pg_advisory_unlock(${migrating})`.catch(() => {});
    guard.release();
  }
}

async function runMigrations(url: string, settled: Settled): Promise<void> {
  const settings = {
    connectionString: url,
    migrationsFolder: `${settled.root}/migrations`,
    logger: new graphileMigrate.Logger(() => () => {}),
  };
  try {
    await patiently(settled, async () => {
      try {
        await (settled.current
          ? graphileMigrate.watch(settings, true)
          : graphileMigrate.migrate(settings));
        return undefined;
      } catch (error) {
        if (error instanceof Error && error.message === graphileMigrating) {
          return "graphile-migrate, which holds its lock on this database";
        }
        throw error;
      }
    });
  } finally {
    // Its pools linger, and one that loses its server ends the process.
    clearAllPools();
  }
}

const logger = new graphileWorker.Logger(() => () => {});

/** Calls `attempt` until it has nothing left to wait for, with growing pauses, telling what it waits for. */
async function patiently(
  { log, patience }: Settled,
  attempt: () => Promise<string | undefined>,
): Promise<void> {
  const deadline = Date.now() + patience;
  let told: string | undefined;
  for (let pause = 100; ; pause = Math.min(pause * 1.5, 5000)) {
    const obstacle = await attempt();
    if (obstacle === undefined) return;
    if (Date.now() > deadline) {
      throw new UserError(`Gave up waiting for ${obstacle}.`, {
        hint: "End it, or try again when it is done; what migrate has done so far does no harm.",
      });
    }
    if (obstacle !== told) log(`Waiting for ${obstacle}.`);
    told = obstacle;
    await sleep(pause);
  }
}

// --- sql/ -----------------------------------------------------------------------------------------------

/**
 * Applies all files in one transaction. A trigger needs a lock on the host's table, and the host's writers would
 * queue behind our wait for it: so we wait a moment only, and rather try again.
 */
async function applySources(sql: Sql, sources: Source[], settled: Settled): Promise<void> {
  await patiently(settled, async () => {
    try {
      await sql.begin(async (transaction) => {
        await transaction.unsafe(
          "set local lock_timeout = '200ms'; set local client_min_messages = warning",
        );
        for (const source of sources) await applySource(transaction, source);
      });
      return undefined;
    } catch (error) {
      if (!isLockFailure(error)) throw error;
      return whoIsInTheWay(sql);
    }
  });
}

async function applySource(transaction: TransactionSql, { name, text }: Source): Promise<void> {
  try {
    await transaction.unsafe(text);
  } catch (error) {
    if (isLockFailure(error) || !(error instanceof Error)) throw error;
    const { position, hint, detail } = error as {
      position?: string;
      hint?: string;
      detail?: string;
    };
    const line = position ? `:${text.slice(0, Number(position)).split("\n").length}` : "";
    throw new UserError(`sql/${name}${line}: ${error.message}`, { hint, detail, cause: error });
  }
}

function isLockFailure(error: unknown): boolean {
  return ["55P03", "40P01"].includes(errorCode(error) ?? "");
}

async function whoIsInTheWay(sql: Sql): Promise<string> {
  const [other] = await sql<{ description: string }[]>`
    select format('process %s (%s, %s, for %s), which uses %s', a.pid,
                  coalesce(nullif(a.application_name, ''), a.backend_type), a.state,
                  date_trunc('minute', now() - a.xact_start), l.relation::regclass) as description
    from pg_locks l join pg_stat_activity a using (pid) join pg_class c on c.oid = l.relation
    where l.granted and l.pid <> pg_backend_pid() and c.relkind in ('r', 'p', 'v')
      and l.database = (select oid from pg_database where datname = current_database())
      and (c.oid = to_regclass('public.reporting_events') or c.relnamespace = to_regnamespace('rollup'))
    order by a.xact_start limit 1`;
  return other?.description ?? "a lock held by another transaction";
}
