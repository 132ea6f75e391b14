/** Databases with accounts and histories for the command line and the worker. */
import type { Sql } from "../../support/client.js";
import { createDatabase, type TestDatabase } from "../../support/database.js";

export interface HistoryOptions {
  account?: number;
  /** One event an hour, backwards from this UTC timestamp. */
  until?: string;
  events?: number;
  timezone?: string | undefined;
}

/** A further database with an account whose history was there before its time zone. */
export async function databaseWithHistory(options: HistoryOptions = {}): Promise<TestDatabase> {
  const database = await createDatabase();
  await addHistory(database.sql, options);
  return database;
}

/** Adds an account with events. */
export async function addHistory(sql: Sql, options: HistoryOptions = {}): Promise<void> {
  const { account = 1, until = "2026-03-01 00:00", events = 2000, timezone } = options;
  await sql`
    insert into public.reporting_events
      (name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id, created_at, updated_at)
    select
      (array['conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_handoff'])[1 + n % 4],
      60 + n % 500, 30 + n % 500, ${account}, 1 + n % 3, 101 + n % 5, 1 + n / 3, at, at
    from generate_series(0, ${events}::int - 1) as n
    cross join lateral (select ${until}::timestamp - n * interval '1 hour' as at) as t`;
  await sql`analyze public.reporting_events`;
  if (timezone !== undefined)
    await sql`select rollup.set_reporting_timezone(${account}, ${timezone})`;
}

/** Makes runs of many small chunks, as a large history does. */
export async function smallChunks(sql: Sql, events: number): Promise<void> {
  await sql.unsafe(`
    create or replace function rollup.chunk_events() returns bigint
    language sql immutable parallel safe as 'select ${events}::bigint'`);
}

/** Makes every rebuild take a moment. */
export async function slowRebuilds(sql: Sql, seconds: number): Promise<void> {
  await sql.unsafe(`
    create function public.take_a_moment() returns trigger language plpgsql as
      $$ begin perform pg_sleep(${seconds}); return null; end $$;
    create trigger take_a_moment after insert on rollup.reporting_events_rollups
      for each statement execute function public.take_a_moment()`);
}

/** Makes rebuilds of days from this one on wait until told to go on. */
export async function heldRebuilds(sql: Sql, from: string): Promise<{ release(): Promise<void> }> {
  await sql.unsafe(`
    create table public.held ();
    insert into public.held default values;
    create function public.wait_while_held() returns trigger language plpgsql security definer as
      $$ begin while exists (select from public.held) loop perform pg_sleep(0.02); end loop; return new; end $$;
    create trigger wait_while_held before insert on rollup.reporting_events_rollups
      for each row when (new.date >= '${from}') execute function public.wait_while_held()`);
  return {
    release: async () => {
      await sql`delete from public.held`;
    },
  };
}

/** Makes every chunk of these days fail, after it has been rebuilt. */
export async function failingDays(sql: Sql, from: string, to: string): Promise<void> {
  await sql.unsafe(`
    create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'this day cannot be'; end $$;
    create trigger refuse before update on rollup.backfill_chunks
      for each row when (new.state = 'done' and new.from_date <= '${to}' and new.to_date >= '${from}') execute function public.refuse()`);
}

/** A run, as `rollup.backfill_runs` has it. */
export interface Run {
  id: string;
  state: string;
  chunks_total: number;
  chunks_done: number;
  chunks_failed: number;
  events: string;
  error: string | null;
}

/** The runs of an account, in order. */
export async function runs(sql: Sql, account = 1): Promise<Run[]> {
  return [
    ...(await sql<Run[]>`
      select * from rollup.backfill_runs where account_id = ${account} order by id`),
  ];
}

/** Waits until a condition holds; throws, naming it, when it takes too long. */
export async function eventually(
  what: string,
  holds: () => Promise<boolean>,
  seconds = 30,
): Promise<void> {
  for (const deadline = Date.now() + seconds * 1000; !(await holds()); ) {
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** Waits until the account's last run has ended, and returns it. */
export async function lastRun(sql: Sql, account = 1, seconds = 30): Promise<Run> {
  let run: Run | undefined;
  await eventually(
    "the run has ended",
    async () => {
      run = (await runs(sql, account)).at(-1);
      return run !== undefined && !["pending", "running"].includes(run.state);
    },
    seconds,
  );
  return run as Run;
}

/** The jobs that are locked. */
export async function locked(sql: Sql): Promise<number> {
  const [row] = await sql<{ locked: number }[]>`
    select count(*)::int as locked from rollup_worker.jobs where locked_by is not null`;
  return row?.locked ?? -1;
}

/** Lets jobs that are due later run now. */
export async function hurry(sql: Sql): Promise<void> {
  await sql`
    select rollup_worker.reschedule_jobs(array(select id from rollup_worker.jobs where run_at > now()), run_at => now())`;
}
