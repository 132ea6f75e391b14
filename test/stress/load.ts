/**
 * Random load on a few hot accounts: writers, a few administrators who change zones, rebuild and fold, and checkers who compare
 * the rollups with the raw events in one snapshot, at any moment. Writers own the events whose id leaves their number as
 * remainder, so that they never wait for one another by themselves: every wait, error or warning is ours.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type Sql } from "../support/client.js";
import {
  type Difference,
  differences,
  distinctDifferences,
  type Range,
  verified,
} from "../support/oracle.js";
import { Random } from "./random.js";

export interface LoadOptions {
  url: string;
  seconds: number;
  seed: number;
  writers?: number;
  accounts?: number;
  /** Ends the load early; errors after that are nobody's fault. */
  signal?: AbortSignal;
  /** Receives the result at the beginning, to look at while it grows. */
  watch?: (result: LoadResult) => void;
}

export interface LoadResult {
  statements: number;
  checks: number;
  /** Checks of accounts that had clean days. */
  telling: number;
  backfills: number;
  zoneChanges: number;
  problems: string[];
}

const zones = ["America/Havana", "Asia/Kolkata", "Pacific/Apia", "America/New_York", "UTC"];
const names = [
  "conversation_resolved",
  "conversation_bot_handoff",
  "first_response",
  "reply_time",
  "conversation_bot_resolved",
  "conversation_opened",
];
const most = 20;

/** Sets zones for the accounts 1, 2, …, so that there is something to keep from the beginning. */
export async function prepareAccounts(url: string, accounts = 4): Promise<void> {
  const sql = connect(url, { max: 1 });
  // Folds in pieces.
  await sql.unsafe(
    "create or replace function rollup.fold_size() returns int language sql immutable parallel safe return 11",
  );
  for (let account = 1; account <= accounts; account++) {
    await sql`select rollup.set_reporting_timezone(${account}, ${zones[account % zones.length] as string})`;
    await sql`select rollup.backfill(${account})`;
  }
  await sql.end();
}

export async function load(options: LoadOptions): Promise<LoadResult> {
  const writers = options.writers ?? 8;
  const run = new Run(options, writers);
  options.watch?.(run.result);
  const random = new Random(options.seed);
  await Promise.all([
    ...Array.from({ length: writers }, (_, number) => write(run, random.fork(), number)),
    ...Array.from({ length: 2 }, () => administer(run, random.fork())),
    ...Array.from({ length: 2 }, () => check(run, random.fork())),
  ]);
  return run.result;
}

/** Compares every account, as it is, after folding and after a rebuild; returns what is wrong. */
export async function checkAtRest(url: string, accounts = 4): Promise<string[]> {
  const sql = connect(url, { max: 1 });
  const problems: string[] = [];
  const random = new Random(1);
  const compare = async (account: number, moment: string) => {
    const found = await compareAccount(sql, account, random);
    problems.push(...describe(account, found).map((line) => `${moment}: ${line}`));
  };
  for (let account = 1; account <= accounts; account++) {
    await compare(account, "at rest");
    await sql`select rollup.fold(${account})`;
    await compare(account, "folded");
    const before = await contents(sql, account);
    const [clean] = await sql`select rollup.clean_days(${account}) = '{(,)}' as everywhere`;
    await sql`select rollup.set_reporting_timezone(${account}, coalesce(
      (select reporting_timezone from rollup.account_settings where account_id = ${account}), 'UTC'))`;
    const covered = await backfillUntilCovered(sql, account);
    await compare(account, "rebuilt");
    if (clean?.everywhere && (await contents(sql, account)) !== before) {
      problems.push(`account ${account}: a rebuild changed something`);
    }
    if (!covered) problems.push(`account ${account}: not covered by a rebuild at rest`);
  }
  await sql.end();
  return problems;
}

/** A writer of another database may be older than the zone: it passes. */
async function backfillUntilCovered(sql: Sql, account: number): Promise<boolean> {
  for (let attempt = 0; attempt < 40; attempt++) {
    await sql`select rollup.backfill(${account})`;
    const [clean] = await sql`select rollup.clean_days(${account}) = '{(,)}' as everywhere`;
    if (clean?.everywhere) return true;
    await sleep(250);
  }
  return false;
}

class Run {
  readonly result: LoadResult = {
    statements: 0,
    checks: 0,
    telling: 0,
    backfills: 0,
    zoneChanges: 0,
    problems: [],
  };
  readonly accounts: number;
  private readonly deadline: number;

  constructor(
    readonly options: LoadOptions,
    readonly writers: number,
  ) {
    this.accounts = options.accounts ?? 4;
    this.deadline = Date.now() + options.seconds * 1000;
  }

  get over(): boolean {
    return (
      Date.now() > this.deadline ||
      this.options.signal?.aborted === true ||
      this.result.problems.length >= most
    );
  }

  problem(text: string): void {
    if (this.options.signal?.aborted !== true && this.result.problems.length < most) {
      this.result.problems.push(text);
    }
  }

  connect(settings: Record<string, string> = {}): Sql {
    return connect(this.options.url, {
      max: 1,
      applicationName: "load",
      settings,
      onNotice: ({ severity, code, message }) => {
        // 25P01: our own rollback after an error.
        if (severity === "WARNING" && code !== "25P01") this.problem(`warning: ${message}`);
      },
    });
  }

  /** Repeats something until the time is over; an error is a problem unless its code is expected. */
  async repeat(sql: Sql, expected: string[], once: () => Promise<void>): Promise<void> {
    while (!this.over) {
      try {
        await once();
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        if (!expected.includes(code ?? "")) this.problem(`error ${code}: ${message}`);
        await sql.unsafe("rollback").catch(() => {});
        if (this.options.signal?.aborted) break;
      }
    }
    await sql.end({ timeout: 1 }).catch(() => {});
  }
}

// --- Writers --------------------------------------------------------------------------------------------

async function write(run: Run, random: Random, number: number): Promise<void> {
  const sql = run.connect({ lock_timeout: "200ms" });
  const writer = new Writer(run, sql, random, number);
  await run.repeat(sql, [], () => writer.transaction());
}

class Writer {
  constructor(
    private readonly run: Run,
    private readonly sql: Sql,
    private readonly random: Random,
    private readonly number: number,
  ) {}

  async transaction(): Promise<void> {
    const { random } = this;
    const isolation = random.pick([
      "read committed",
      "read committed",
      "repeatable read",
      "serializable",
    ]);
    if (isolation === "read committed" && random.chance(0.4)) {
      await this.execute(this.statement(isolation));
      return;
    }
    await this.sql.unsafe(`begin isolation level ${isolation}`);
    if (random.chance(0.5)) await this.sql.unsafe("select count(*) from public.accounts");
    if (random.chance(0.05)) await sleep(random.int(1000));
    for (let step = random.int(5); step >= 0; step--) await this.step(isolation);
    if (random.chance(0.05)) await sleep(random.int(500));
    await this.finish();
  }

  private async step(isolation: string): Promise<void> {
    const { random, sql } = this;
    if (!random.chance(0.25)) {
      await this.execute(this.statement(isolation));
      return;
    }
    await sql.unsafe("savepoint s");
    for (let step = random.int(3); step >= 0; step--) await this.execute(this.statement(isolation));
    if (random.chance(0.2))
      await sql.unsafe("select 1 / 0").catch(() => sql.unsafe("rollback to s"));
    else await sql.unsafe(random.pick(["rollback to s", "release s"]));
  }

  private async finish(): Promise<void> {
    const { random, sql } = this;
    const ending = random.pick(["commit", "rollback"], [0.8, 0.2]);
    if (!random.chance(0.05)) {
      await sql.unsafe(ending);
      return;
    }
    const name = `load_${this.number}`;
    await sql.unsafe(`prepare transaction '${name}'`);
    await sleep(random.int(300));
    await sql.unsafe(`${ending} prepared '${name}'`);
  }

  private async execute(statement: string): Promise<void> {
    await this.sql.unsafe(statement);
    this.run.result.statements++;
  }

  private statement(isolation: string): string {
    const { random } = this;
    // What reads in a serializable transaction conflicts with the inserts of others, trigger or not.
    if (isolation === "serializable") return this.insert();
    return random.pick(
      [() => this.insert(), () => this.update(), () => this.remove()],
      [0.55, 0.25, 0.2],
    )();
  }

  private insert(): string {
    const { random } = this;
    const count = random.pick([1, 1, 1, 1 + random.int(20)]);
    const account = this.account();
    const rows = Array.from({ length: count }, () => {
      const row = [
        `'${random.pick(names)}'`,
        random.pick(["null", "'NaN'", `${random.next() * 1000}`], [0.05, 0.02, 0.93]),
        random.pick(["null", `${random.next() * 100}`]),
        random.chance(0.9) ? account : this.account(),
        this.some(3),
        this.some(2),
        this.some(12),
        `timestamp '${this.instant()}'`,
      ];
      return `(${row.join(", ")})`;
    });
    return `
      insert into public.reporting_events
        (name, value, value_in_business_hours, account_id, user_id, inbox_id, conversation_id, created_at)
      values ${rows.join(", ")}`;
  }

  private update(): string {
    const { random } = this;
    const assignments = [
      `account_id = ${this.account()}`,
      `user_id = ${this.some(3)}`,
      `inbox_id = ${this.some(2)}`,
      `conversation_id = ${this.some(12)}`,
      `name = '${random.pick(names)}'`,
      `value = ${random.next() * 10}`,
      "value = value * 1.0000001, value_in_business_hours = value",
      `created_at = '${this.instant()}'`,
      `created_at = created_at + interval '${random.int(48) - 24} hours'`,
      `conversation_id = user_id, user_id = inbox_id, created_at = '${this.instant()}'`,
    ];
    return `update public.reporting_events set ${random.pick(assignments)} where id in (${this.own(1 + random.int(6))})`;
  }

  private remove(): string {
    return `delete from public.reporting_events where id in (${this.own(1 + this.random.int(40))})`;
  }

  /** Ids of events that nobody else changes. */
  private own(limit: number): string {
    return `
      select id from public.reporting_events
      where account_id = ${this.account()} and id % ${this.run.writers} = ${this.number}
      order by random() limit ${limit}`;
  }

  private account(): number {
    return 1 + this.random.int(this.run.accounts);
  }

  private some(most: number): string {
    return this.random.chance(0.1) ? "null" : String(1 + this.random.int(most));
  }

  /** Around the night in which Havana's clocks go back over midnight. */
  private instant(): string {
    const start = Date.UTC(2024, 9, 28);
    const instant = this.random.chance(0.2)
      ? Date.UTC(2024, 10, 3, 3, 30) + this.random.int(3 * 3_600_000)
      : start + this.random.int(12 * 86_400_000);
    return new Date(instant).toISOString().replace("T", " ").replace("Z", "");
  }
}

// --- Administrators -------------------------------------------------------------------------------------

const busy = "RU006";
const noZone = "RU002";

async function administer(run: Run, random: Random): Promise<void> {
  const sql = run.connect();
  await run.repeat(sql, [busy, noZone], async () => {
    const account = 1 + random.int(run.accounts);
    const actions: [number, () => PromiseLike<unknown>][] = [
      [5, () => changeZone(run, sql, random, account)],
      [
        8,
        () =>
          sql`select rollup.set_write_mode(${account}, ${random.pick(["inline", "append"], [0.7, 0.3])})`,
      ],
      [20, () => backfill(run, sql, random, account)],
      [3, () => sql`select rollup.repair(${account})`],
      [10, () => sql`select rollup.fold()`],
      [5, () => sql`select rollup.fold_account(${account})`],
      [2, () => abandon(sql, account)],
    ];
    await random.pick(
      actions.map(([, action]) => action),
      actions.map(([weight]) => weight),
    )();
    await sleep(random.int(100));
  });
}

async function changeZone(run: Run, sql: Sql, random: Random, account: number): Promise<void> {
  const zone = random.chance(0.15) ? null : random.pick(zones);
  await sql.unsafe("begin");
  await sql`select rollup.set_reporting_timezone(${account}, ${zone})`;
  // Writers that begin now act under the old zone and are younger than the change.
  if (random.chance(0.5)) await sleep(random.int(300));
  await sql.unsafe("commit");
  run.result.zoneChanges++;
  if (random.chance(0.8)) await backfill(run, sql, random, account);
}

async function backfill(run: Run, sql: Sql, random: Random, account: number): Promise<void> {
  const [range] = randomRanges(random, 1) as [Range];
  const [first, last] = random.pick([
    [null, null],
    [null, null],
    [range.from, range.to],
    [null, range.to],
    [range.from, null],
  ]);
  await sql`select rollup.backfill(${account}, ${first ?? null}, ${last ?? null})`;
  run.result.backfills++;
}

/** A change of zone with a rebuild that is rolled back after all. */
async function abandon(sql: Sql, account: number): Promise<void> {
  await sql.unsafe("begin");
  await sql`select rollup.set_reporting_timezone(${account}, 'Asia/Tokyo')`;
  await sql`select rollup.backfill(${account})`;
  await sql.unsafe("rollback");
}

// --- Checkers -------------------------------------------------------------------------------------------

async function check(run: Run, random: Random): Promise<void> {
  const sql = run.connect();
  await run.repeat(sql, [noZone], async () => {
    const account = 1 + random.int(run.accounts);
    await sql.unsafe("begin isolation level repeatable read read only");
    const [clean] = await sql`select isempty(rollup.clean_days(${account})) as none`;
    const found = await compareAccount(sql, account, random);
    await sql.unsafe("commit");
    for (const line of describe(account, found)) run.problem(line);
    run.result.checks++;
    if (!clean?.none) run.result.telling++;
    await sleep(random.int(20));
  });
}

async function compareAccount(sql: Sql, account: number, random: Random): Promise<Difference[]> {
  const [settings] =
    await sql`select reporting_timezone as zone from rollup.account_settings where account_id = ${account}`;
  if (!settings?.zone) return [];
  return [
    ...(await differences(sql, account)),
    ...(await verified(sql, account)),
    ...(await distinctDifferences(sql, account, randomRanges(random, 6))),
  ];
}

function randomRanges(random: Random, length: number): Range[] {
  return Array.from({ length }, () => {
    const [from, to] = [random.int(16), random.int(16)]
      .map((day) => new Date(Date.UTC(2024, 9, 26 + day)).toISOString().slice(0, 10))
      .sort() as [string, string];
    return { from, to };
  });
}

function describe(account: number, found: Difference[]): string[] {
  return found.slice(0, 5).map(({ side, row }) => `account ${account}: ${side} ${row}`);
}

async function contents(sql: Sql, account: number): Promise<string> {
  const [row] = await sql`
    select md5(concat(
      (select string_agg(concat_ws(' ', date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours,
                                   count_value, count_value_business_hours), ','
                         order by date, dimension_type, dimension_id, metric)
       from rollup.reporting_events_rollups where account_id = ${account}),
      (select string_agg(l::text, ',' order by l::text) from rollup.ledger as l where account_id = ${account}),
      (select string_agg(p::text, ',' order by p::text) from rollup.previous_dates as p where account_id = ${account}))) as digest`;
  return row?.digest;
}
