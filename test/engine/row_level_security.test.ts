/** A policy that hides events makes no number smaller: whoever rebuilds or verifies must see all of them. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { connect, database } from "../support/database.js";
import { accountIn, assertExactEverywhere, cleanDays, insert, sqlstate } from "./support.js";

const policies = suite("row level security");
const sql = database();
const role = "sees_some_events";

policies("rebuilds, runs and verification refuse, and claim nothing", async () => {
  const account = await accountIn("UTC", { covered: false });
  await insert(sql, account, {}, {});
  const [run] = await sql<{ id: string }[]>`
    select id from rollup.backfill_runs where account_id = ${account}`;
  const superuser = connect({ superuser: true });
  const filtered = connect({ superuser: true });
  try {
    await superuser.unsafe(`
      create role ${role};
      grant select on public.reporting_events to ${role};
      grant usage on schema rollup, rollup_worker to ${role};
      grant all on all tables in schema rollup to ${role};
      grant all on all sequences in schema rollup to ${role};
      grant all on all functions in schema rollup to ${role};
      alter table public.reporting_events enable row level security;
      create policy none_of_them on public.reporting_events for select to ${role} using (false)`);
    await filtered.unsafe(`set role ${role}`);
    for (const call of [
      `rollup.backfill(${account})`,
      `rollup.backfill_date(${account}, '2026-02-11')`,
      `rollup.repair(${account})`,
      `rollup.verify(${account})`,
    ]) {
      assert.is(await sqlstate(filtered.unsafe(`select * from ${call}`)), "RU011", call);
    }
    const [step] = await filtered<{ outcome: string; state: string; error: string }[]>`
      select outcome, state, error from rollup.continue_backfill(
        ${run?.id as string}, (select job_id from rollup.backfill_runs where id = ${run?.id as string}))`;
    assert.is(step?.outcome, "failed");
    assert.is(step?.state, "failed");
    assert.match(step?.error ?? "", "row level security hides events");
    assert.is(await cleanDays(account), "{}");
    // Whoever sees all events is not in its way.
    await superuser`select rollup.backfill(${account})`;
    await superuser`alter table public.reporting_events disable row level security`;
    await assertExactEverywhere(account);
  } finally {
    await filtered.end();
    await superuser.unsafe(`
      alter table public.reporting_events disable row level security;
      drop policy none_of_them on public.reporting_events;
      drop owned by ${role};
      drop role ${role}`);
    await superuser.end();
  }
});

policies.run();
