/** Truncate. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { createDatabase } from "../support/database.js";
import { assertExact, cleanDays, insert, rollups, stored } from "./support.js";

test("truncate marks every account with a zone, and does nothing else (rule)", async () => {
  const { sql, drop } = await createDatabase();
  try {
    for (const account of [1, 2, 3]) {
      await sql`select rollup.set_reporting_timezone(${account}, 'UTC')`;
      await sql`select rollup.backfill(${account})`;
      await insert(sql, account, { user_id: 7 }, {});
    }
    await sql`select rollup.set_reporting_timezone(3, null)`;
    await insert(sql, 4, {});

    await sql
      .begin(async (tx) => {
        await tx`truncate public.reporting_events`;
        throw new Error("back");
      })
      .catch(() => {});
    assert.is(await cleanDays(1, sql), "{(,)}");
    await assertExact(1, sql);

    await sql`truncate public.reporting_events`;
    const marks = await sql`select account_id, date from rollup.dirty_marks order by 1`;
    assert.equal(
      marks.map((mark) => ({ ...mark })),
      [
        { account_id: 1, date: null },
        { account_id: 2, date: null },
      ],
    );
    assert.is(await cleanDays(1, sql), "{}");
    assert.is((await stored(1, sql)).length, 2);

    await insert(sql, 1, {});
    await sql`select rollup.repair(1)`;
    assert.is(await cleanDays(1, sql), "{(,)}");
    assert.equal(await rollups(1, sql), ["2026-02-11 account 1 first_response 1 1 1"]);
    await assertExact(1, sql);
    await sql`select rollup.backfill(2)`;
    assert.equal(await rollups(2, sql), []);
    assert.is(await cleanDays(2, sql), "{(,)}");
  } finally {
    await drop();
  }
});

test.run();
