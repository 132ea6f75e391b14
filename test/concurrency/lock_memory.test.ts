/** Statements and transactions over thousands of accounts: lock memory is the whole server's. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { copyAccount } from "../engine/support.js";
import type { Sql } from "../support/client.js";
import { createDatabase, type TestDatabase } from "../support/database.js";

/** More than the lock table of the tests' server has room for. */
const accounts = 6_000;
const locks = suite("lock memory");

/** A database whose accounts all have a zone and are covered, to be cloned. */
let model: TestDatabase;

locks.before(async () => {
  model = await createDatabase();
  const { sql } = model;
  // So that a statement over all of them is too large to be applied.
  await sql.unsafe(`
    create or replace function rollup.inline_events() returns int language sql immutable parallel safe return 5000`);
  await sql`select rollup.set_reporting_timezone(0, 'America/New_York')`;
  await sql`select rollup.backfill(0)`;
  const copies = Array.from({ length: accounts }, (_, n) => ({
    account: n + 1,
    timezone: "America/New_York",
  }));
  await copyAccount(sql, 0, copies);
  await sql.end();
});
locks.after(() => model.drop());

async function withAccounts(work: (sql: Sql) => Promise<void>): Promise<void> {
  const { sql, drop } = await createDatabase({ template: model.name });
  try {
    await work(sql);
  } finally {
    await drop();
  }
}

async function lockCount(sql: Sql): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()`;
  return row?.count ?? 0;
}

/** Every account must have n events on 2026-02-11, pending or applied, and no mark. */
async function assertEach(sql: Sql, n: number): Promise<void> {
  const [row] = await sql`
    select count(*)::int as accounts, min(count)::int as least, max(count)::int as most, sum(sum_value)::int as sum,
      (select count(*)::int from rollup.dirty_marks) as marks
    from (
      select account_id, sum(count) as count, sum(sum_value) as sum_value
      from (
        select account_id, count, sum_value from rollup.reporting_events_rollups
        where dimension_type = 'account' and metric = 'reply_time' and date = '2026-02-11'
        union all
        select account_id, count, sum_value from rollup.deltas where date = '2026-02-11'
      ) as both_parts
      group by account_id
    ) as each`;
  assert.equal({ ...row }, { accounts, least: n, most: n, sum: 2 * n * accounts, marks: 0 });
}

async function foldAll(sql: Sql): Promise<void> {
  for (let more = true; more; ) {
    const [row] = await sql`select rollup.fold() as deltas`;
    more = row?.deltas !== "0";
  }
  const [left] = await sql`select count(*)::int as count from rollup.deltas`;
  assert.is(left?.count, 0);
}

const insertAll = `
  insert into public.reporting_events (name, value, account_id, created_at)
  select 'reply_time', 2, i, '2026-02-12 04:00' from generate_series(1, ${accounts}) as i`;

locks("one statement over 6,000 accounts (rule: about 50 locks)", () =>
  withAccounts(async (sql) => {
    await sql.begin(async (tx) => {
      await tx.unsafe(insertAll);
      assert.ok((await lockCount(tx as unknown as Sql)) <= 50);
      await tx.unsafe(insertAll);
      await tx.unsafe("update public.reporting_events set value = 3");
      await tx.unsafe("update public.reporting_events set value = 2");
      assert.is(await lockCount(tx as unknown as Sql), 0);
      // Few enough to be applied: two rows each, counted before and after.
      await tx.unsafe("update public.reporting_events set value = 4 where account_id <= 1200");
      await tx.unsafe("update public.reporting_events set value = 2 where value = 4");
      const held = await lockCount(tx as unknown as Sql);
      assert.ok(held > 0 && held <= 50, `${held} locks`);
    });
    await assertEach(sql, 2);
    await foldAll(sql);
    await assertEach(sql, 2);
  }),
);

locks("6,000 statements in one transaction, with savepoints (rule: about 50 locks)", () =>
  withAccounts(async (sql) => {
    await sql.begin(async (tx) => {
      await tx.unsafe(`
        do $$
        begin
          for i in 1..${accounts} loop
            begin
              insert into public.reporting_events (name, value, account_id, created_at) values ('reply_time', 2, i, '2026-02-12 04:00');
              if i % 100 = 0 then
                raise 'back';
              end if;
            exception when others then
              insert into public.reporting_events (name, value, account_id, created_at) values ('reply_time', 2, i, '2026-02-12 04:00');
            end;
          end loop;
        end
        $$`);
      const held = await lockCount(tx as unknown as Sql);
      assert.ok(held <= 50, `${held} locks`);
      assert.ok(held > 0);
    });
    await assertEach(sql, 1);
  }),
);

locks("many savepoints that are rolled back do not add up to locks, nor use them up for good", () =>
  withAccounts(async (sql) => {
    await sql.begin(async (tx) => {
      for (let account = 1; account <= 100; account++) {
        await tx.unsafe("savepoint s");
        await tx.unsafe(
          `insert into public.reporting_events (name, value, account_id) values ('reply_time', 2, ${account})`,
        );
        assert.is(await lockCount(tx as unknown as Sql), 1);
        await tx.unsafe("rollback to s");
      }
      assert.is(await lockCount(tx as unknown as Sql), 0);
    });
  }),
);

locks.run();
