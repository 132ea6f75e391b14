/** A publication of all tables wants a replica identity of every table that is updated or deleted from. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { migrate } from "../../src/database/migrate.js";
import { connect, createDatabase } from "../support/database.js";
import { assertExactEverywhere, insert, pending } from "./support.js";

const publication = suite("a publication of all tables");

publication("folding, rebuilds, repairs and runs go on", async () => {
  const { sql, url, drop } = await createDatabase();
  try {
    const superuser = connect({ url, superuser: true });
    await superuser`create publication everything for all tables`;
    await superuser.end();
    await sql`select rollup.set_reporting_timezone(1, 'Asia/Kolkata')`;
    await sql`select rollup.set_write_mode(1, 'append')`;
    await insert(sql, 1, { name: "conversation_bot_handoff", conversation_id: 1 }, { user_id: 2 });
    await sql`select rollup.backfill(1)`;
    await insert(sql, 1, { name: "conversation_bot_handoff", conversation_id: 1 }, { user_id: 3 });
    assert.ok((await pending(1, sql)) > 0);
    await sql`select rollup.fold()`;
    assert.is(await pending(1, sql), 0);
    await sql`delete from public.reporting_events where user_id = 3`;
    await sql`update rollup.ledger set count = count + 1`;
    await sql`insert into rollup.dirty_marks (account_id, date, marked_at) values (1, '2026-02-11', now())`;
    assert.equal(
      [...(await sql`select r::text as date from rollup.repair(1) as r`)],
      [{ date: "2026-02-11" }],
    );
    await sql`select rollup.fold()`;
    await assertExactEverywhere(1, sql);
    await sql`select rollup.set_reporting_timezone(1, 'America/New_York')`;
    const [run] = await sql<
      { id: string }[]
    >`select id from rollup.backfill_runs where state = 'pending'`;
    for (let step = 0; step < 3; step++)
      await sql`select rollup.continue_backfill(${run?.id as string}, job_id) from rollup.backfill_runs where id = ${run?.id as string}`;
    assert.equal(
      [
        ...(await sql`select state, error from rollup.backfill_runs where id = ${run?.id as string}`),
      ],
      [{ state: "done", error: null }],
    );
    await assertExactEverywhere(1, sql);
    await migrate(url);
  } finally {
    await drop();
  }
});

publication.run();
