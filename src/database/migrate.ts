/**
 * Installs and updates everything in a database: the history in migrations/ once, graphile-worker's own
 * migrations, and the present in sql/ every time.
 */
import { readdir, readFile } from "node:fs/promises";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import graphileMigrate from "graphile-migrate";
import {
  _migrateMigrationSchema,
  getLastMigration,
  getMigrationsAfter,
  runCommittedMigration,
  runStringMigration,
} from "graphile-migrate/dist/migration.js";
import graphileWorker from "graphile-worker";
import type { Pool, PoolClient } from "pg";
import type { PostgresError } from "postgres";
import { inNode, type Node, nodesOf, ownSettings, waitBriefly } from "./citus.js";
import {
  checkVersion,
  connect,
  pgPool,
  type Queries,
  requireSession,
  type Sql,
  type Transaction,
} from "./connection.js";
import { errorCode, isLockConflict, UserError } from "./errors.js";
import { requireHostTable } from "./host.js";
import {
  mark,
  readerRole,
  readSchemas,
  refuseForeign,
  type Schema,
  schemas,
  workerSchema,
} from "./ours.js";
import { readUrl } from "./url.js";

const packageRoot = fileURLToPath(new URL("../..", import.meta.url));

/**
 * The files of sql/, in the order in which they are applied: each may use what those before it define. On Citus with those
 * of sql/citus/ among them.
 */
export async function sqlFiles(root = packageRoot, citus = false): Promise<string[]> {
  const names = await readdir(`${root}/sql`);
  if (citus) names.push(...(await readdir(`${root}/sql/citus`)).map((name) => `citus/${name}`));
  return names
    .filter((name) => name.endsWith(".sql"))
    .sort((a, b) => (basename(a) < basename(b) ? -1 : 1));
}

export interface MigrateOptions {
  /** Receives a line for everything worth telling. */
  log?: (line: string) => void;
  /** Make the host's tables where there are none: for a database to try the rollups on. */
  createHostTables?: boolean;
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

/** A migrate under way. */
interface Session extends Settled {
  /** One connection, whose session holds the locks. */
  sql: Sql;
  /** What graphile-migrate and graphile-worker speak through. */
  pool: Pool;
  client: PoolClient;
  user: string;
  database: string;
}

/** Brings the database to the state of this version. Safe to repeat, to interrupt and to run twice at once. */
export async function migrate(url: string, options: MigrateOptions = {}): Promise<MigrateResult> {
  const settled: Settled = {
    log: options.log ?? (() => {}),
    createHostTables: options.createHostTables ?? false,
    patience: options.patience ?? 300_000,
    root: options.root ?? packageRoot,
    current: options.current ?? false,
  };
  const migrations = await readMigrations(settled.root);
  const applicationName = "reporting-rollup migrate";
  await requireSession(url, "migrate");
  const pool = await pgPool(url, { max: 2, applicationName, settings: ownSettings });
  const sql = connect(url, { max: 1, applicationName, settings: ownSettings });
  try {
    const client = await pool.connect();
    try {
      const { user, database } = readUrl(url);
      const session = { ...settled, pool, client, sql, user, database };
      const nodes = await nodesOf(sql, url);
      return await oneAtATime(session, async () => {
        const result = await install(
          session,
          migrations,
          nodes.find(({ here }) => here),
        );
        await installNodes(session, nodes);
        return result;
      });
    } finally {
      client.release();
    }
  } finally {
    await Promise.all([pool.end(), sql.end()]);
  }
}

async function install(
  session: Session,
  migrations: Migration[],
  node: Node | undefined,
): Promise<MigrateResult> {
  const { sql, pool } = session;
  const sources = await readSources(session, node !== undefined);
  const onWorkerNode = node !== undefined && !node.coordinator;
  await checkVersion(sql);
  const found = await requireHostTable(sql, session.createHostTables);
  const present = await readSchemas(
    sql,
    migrations.map(({ hash }) => hash),
    onWorkerNode,
  );
  refuseForeign(present);
  await checkHistory(sql, migrations);
  await requireRights(sql, found, present);
  await makeSchema(session, present, "graphile_migrate");
  if (onWorkerNode) await setAsidePropagated(session);
  await runMigrations(session);
  await adoptPropagated(session);
  // When the tables are there: the triggers of shards ask for it.
  await makeSchema(session, present, workerSchema);
  await sql.transaction((own) => own.script(`comment on schema rollup is '${mark}'`));
  await graphileWorker.runMigrations({ pgPool: pool, schema: workerSchema, logger });
  const applied = found ? sources : [await hostTables(session), ...sources];
  await applySources(session, applied);
  await requestReader(session);
  await bringUpToDate(session);
  if (onWorkerNode) await sql`select rollup.take_shared_settings()`;
  const [server] = await sql<{ version: string }[]>`
    select current_setting('server_version') as version`;
  return {
    server_version: server?.version ?? "",
    host_tables: found ? "found" : "created",
    migrations: migrations.length,
    sql_files: applied.length,
  };
}

/**
 * From the coordinator of a Citus cluster: the same on its other nodes, each an installation of its own, and at last what they
 * share.
 */
async function installNodes(session: Session, nodes: Node[]): Promise<void> {
  const { sql, log } = session;
  const [host] = await sql<{ distributed: boolean }[]>`
    select rollup.is_distributed() and rollup.is_coordinator() as distributed`;
  if (!host?.distributed) return;
  for (const { name, url } of nodes.filter(({ here }) => !here)) {
    log(`Node ${name}`);
    await migrate(url, { ...session, createHostTables: false }).catch((error) => {
      throw inNode(error, name);
    });
  }
  await withoutQueueing(session, async () => {
    const found = await sql.transaction(async (transaction) => {
      await transaction.script(waitBriefly);
      return transaction<{ done: string }[]>`select d as done from rollup.distribute() as d`;
    });
    for (const { done } of found) log(done);
  });
}

/** Roles are the server's, so the one for readers may be somebody else's to make. */
async function requestReader({ sql, log, user }: Session): Promise<void> {
  const [role] = await sql<{ found: boolean }[]>`
    select to_regrole(${readerRole}) is not null as found`;
  if (role?.found) return;
  log(
    `There is no role for those who read reports, and ${user} may not create one. ` +
      `As somebody who may: create role ${readerRole}; and then migrate again.`,
  );
}

// --- What is to be installed ----------------------------------------------------------------------------

interface Source {
  name: string;
  text: string;
}

async function readSource(root: string, name: string): Promise<Source> {
  return { name, text: await readFile(`${root}/sql/${name}`, "utf8") };
}

async function readSources({ root }: Settled, citus: boolean): Promise<Source[]> {
  return Promise.all((await sqlFiles(root, citus)).map((name) => readSource(root, name)));
}

/** The host's tables, for a database that has none. */
function hostTables({ root }: Settled): Promise<Source> {
  return readSource(root, "host/tables.sql");
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

/** Throws a `UserError` that names every right the role lacks. */
async function requireRights(sql: Queries, hostTable: boolean, present: Schema[]): Promise<void> {
  const [role] = await sql<
    {
      name: string;
      database: string;
      creates: boolean;
      creates_in_public: boolean;
      host_owner: string | null;
      owns_host: boolean | null;
    }[]
  >`
    select quote_ident(current_user) as name, quote_ident(current_database()) as database,
           has_database_privilege(current_database(), 'create') as creates,
           has_schema_privilege('public', 'create') as creates_in_public,
           quote_ident(pg_get_userbyid(c.relowner)) as host_owner, pg_has_role(c.relowner, 'usage') as owns_host
    from (select) as one left join pg_class as c on c.oid = to_regclass('public.reporting_events')`;
  const foreign = present.filter(({ owned }) => !owned);
  const name = role?.name;
  const lacks: [problem: string, remedy: string][] = [];
  if (hostTable && !role?.owns_host) {
    lacks.push([`it does not own public.reporting_events`, `grant ${role?.host_owner} to ${name}`]);
  }
  if (!hostTable && !role?.creates_in_public) {
    lacks.push([`it may not create in schema public`, `grant create on schema public to ${name}`]);
  }
  if (present.length < schemas.length && !role?.creates) {
    lacks.push([
      `it may not create schemas in database ${role?.database}`,
      `grant create on database ${role?.database} to ${name}`,
    ]);
  }
  for (const { name: schema, owner } of foreign) {
    lacks.push([`it does not own schema ${schema}`, `grant ${owner} to ${name}`]);
  }
  if (lacks.length === 0) return;
  const owner = role?.owns_host === false ? `Connect as ${role.host_owner}, or: ` : "";
  const remedies = [...new Set(lacks.map(([, remedy]) => remedy))].join("; ");
  throw new UserError(
    `The role ${role?.name} cannot install reporting-rollup: ${lacks.map(([problem]) => problem).join("; ")}.`,
    { hint: `Nothing was changed. ${owner}${remedies}.` },
  );
}

/** graphile-migrate goes by file names alone: another project's history would hide ours from it. */
async function checkHistory(sql: Queries, migrations: Migration[]): Promise<void> {
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
/** The lock that graphile-migrate takes, in the session of its client. */
const graphileMigrating = "4727445306447283";

/** Runs `work` while no other migrate runs on this database. */
async function oneAtATime<T>(session: Session, work: () => Promise<T>): Promise<T> {
  const { sql } = session;
  try {
    await patiently(session, async () => {
      const [lock] = await sql<{ taken: boolean }[]>`
        select pg_try_advisory_lock(${migrating}) as taken`;
      return lock?.taken ? undefined : "another migrate on this database";
    });
    return await work();
  } finally {
    await sql`select pg_advisory_unlock(${migrating})`.catch(() => {});
  }
}

/** Makes a schema that a library would make, and marks it as ours. */
async function makeSchema(session: Session, present: Schema[], name: string): Promise<void> {
  const { client } = session;
  const schema = present.find((schema) => schema.name === name);
  if (schema !== undefined && !schema.ours) return;
  await client.query("begin");
  if (schema === undefined) {
    await client.query(`create schema ${name}`);
    if (name === "graphile_migrate")
      await _migrateMigrationSchema(client, settingsOf(session, true));
  }
  await client.query(`comment on schema ${name} is '${mark}'`);
  await client.query("commit");
}

const settingsOf = ({ root, user, database }: Session, manageGraphileMigrateSchema = false) =>
  ({
    migrationsFolder: `${root}/migrations`,
    manageGraphileMigrateSchema,
    logger: new graphileMigrate.Logger(() => () => {}),
    databaseOwner: user,
    databaseName: database,
  }) as unknown as Parameters<typeof getLastMigration>[1];

/** As graphile-migrate's own command does, but on our connection: its own would read the URL in another way. */
async function runMigrations(session: Session): Promise<void> {
  const { client, sql, root, database, current } = session;
  const settings = settingsOf(session);
  await patiently(session, async () => {
    const { rows } = await client.query(
      `select pg_try_advisory_lock(${graphileMigrating}) as taken`,
    );
    return rows[0].taken ? undefined : "graphile-migrate, which holds its lock on this database";
  });
  try {
    await withoutQueueing(session, async () => {
      const last = await getLastMigration(client, settings);
      for (const migration of await getMigrationsAfter(settings, last)) {
        await runCommittedMigration(client, settings, { database }, migration, "");
      }
    });
    if (!current) return;
    const body = await readFile(`${root}/migrations/current.sql`, "utf8");
    const ran = await sql`select from graphile_migrate.current where content = ${body}`;
    if (ran.length > 0) return;
    await runStringMigration(client, settings, { database }, body, "current.sql", undefined);
    await sql`
      insert into graphile_migrate.current (content) values (${body})
      on conflict (filename) do update set content = excluded.content, date = now()`;
  } finally {
    await client.query(`select pg_advisory_unlock(${graphileMigrating})`).catch(() => {});
  }
}

/** The name for a schema `rollup` that Citus has made on a worker node, with the triggers' functions and what the nodes share. */
const ofCitus = "rollup_of_citus";

async function setAsidePropagated({ sql }: Session): Promise<void> {
  const [rollup] = await sql<{ propagated: boolean }[]>`
    select to_regnamespace('rollup') is not null and to_regclass('rollup.account_settings') is null as propagated`;
  if (rollup?.propagated) await sql.alone(`alter schema rollup rename to ${ofCitus}`);
}

/** Takes what is there into our schema, where it stays the same objects, those that triggers and Citus know. */
async function adoptPropagated({ sql }: Session): Promise<void> {
  await sql.transaction(async (transaction) => {
    const objects = await transaction<{ name: string }[]>`
      select 'function ' || oid::regprocedure as name from pg_proc where pronamespace = to_regnamespace(${ofCitus})
      union all
      select 'table ' || oid::regclass from pg_class where relnamespace = to_regnamespace(${ofCitus}) and relkind = 'r'`;
    for (const { name } of objects) {
      await transaction.script(`alter ${name} set schema rollup`);
    }
    await transaction.script(`drop schema if exists ${ofCitus}`);
  });
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
 * Does something that needs locks on tables which the host's writers use, and who come after us would queue behind our wait for
 * them: so it waits a moment only, and is rather tried again.
 */
async function withoutQueueing(session: Session, work: () => Promise<void>): Promise<void> {
  const { client, sql } = session;
  await patiently(session, async () => {
    try {
      await client.query("set lock_timeout = '200ms'");
      await work();
      return undefined;
    } catch (error) {
      if (!isLockConflict(error)) throw error;
      return whoIsInTheWay(sql);
    } finally {
      await client.query("set lock_timeout = 0").catch(() => {});
    }
  });
}

/** Applies all files in one transaction, and drops the functions that none of them defines any more. */
async function applySources(session: Session, sources: Source[]): Promise<void> {
  await withoutQueueing(session, () =>
    session.sql.transaction(async (transaction) => {
      await transaction.script(
        "set local lock_timeout = '200ms'; set local client_min_messages = warning",
      );
      const before = await transaction`
        select oid, ctid from pg_proc where pronamespace = 'rollup'::regnamespace`;
      for (const source of sources) {
        // Privileges touch functions that are no longer defined, too.
        if (source.name === "91_privileges.sql") await dropLeftovers(transaction, before);
        await applySource(transaction, source);
      }
    }),
  );
}

/** Drops the functions that are as they were before: one that is replaced gets another ctid. */
async function dropLeftovers(transaction: Transaction, before: unknown): Promise<void> {
  const leftover = await transaction<{ name: string }[]>`
    select p.oid::regprocedure::text as name
    from jsonb_to_recordset(${JSON.stringify(before)}::text::jsonb) as b (oid oid, ctid tid)
    join pg_proc as p on p.oid = b.oid and p.ctid = b.ctid`;
  for (const { name } of leftover) {
    await transaction.script(`drop function if exists ${name} cascade`);
  }
}

/** What concerns accounts, of which there may be many: apart, for by now the host's tables are locked no more. */
async function bringUpToDate(session: Session): Promise<void> {
  const { sql, log } = session;
  await withoutQueueing(session, async () => {
    await sql`select rollup.watch_zone_rules()`;
    const [row] = await sql<{ accounts: string }[]>`
      select rollup.follow_host_settings() as accounts`;
    const accounts = Number(row?.accounts);
    if (accounts > 0) log(`Took over the time zones of ${accounts} accounts from their settings.`);
  });
  const obstacles = await sql<{ obstacle: string }[]>`
    select o as obstacle from rollup.host_setting_obstacles() as o`;
  for (const { obstacle } of obstacles) log(obstacle);
}

async function applySource(transaction: Transaction, source: Source): Promise<void> {
  const { name, text } = source;
  try {
    await transaction.script("savepoint source");
    await transaction.script(text);
    await transaction.script("release savepoint source");
  } catch (error) {
    // Another return type: PostgreSQL says what to drop first. What depends on it stands in this file or in a later one.
    const changed = /Use (DROP FUNCTION .*) first/.exec((error as PostgresError).hint ?? "");
    if (errorCode(error) === "42P13" && changed !== null) {
      await transaction.script(`rollback to savepoint source; ${changed[1]} cascade`);
      return applySource(transaction, source);
    }
    if (isLockConflict(error) || errorCode(error) === undefined) throw error;
    const { message, position, hint, detail } = error as PostgresError;
    const line = position ? `:${text.slice(0, Number(position)).split("\n").length}` : "";
    throw new UserError(`sql/${name}${line}: ${message}`, { hint, detail, cause: error });
  }
}

async function whoIsInTheWay(sql: Queries): Promise<string> {
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
