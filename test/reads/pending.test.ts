/** Reads beside many pending deltas: right, and no longer than the days and events that are asked for. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Sql } from "../support/client.js";
import { connect, createDatabase } from "../support/database.js";
import { pages, planOf, question, wrongAnswers } from "./support.js";

const perDay = 400;

/** A year of events of which the rollups know nothing yet, as they came month by month: all of them are pending. */
async function pendingYear(on: Sql): Promise<void> {
  for (let day = 0; day < 365; day += 30) {
    await on`
      insert into public.reporting_events
        (name, value, value_in_business_hours, account_id, user_id, inbox_id, conversation_id, created_at)
      select (rollup.event_names())[1 + i % 5], i, case when i % 3 = 0 then i end, 1, i % 9, i % 3, i / 7,
        timestamp '2025-01-01' + d * interval '1 day' + i * interval '3 minutes'
      from generate_series(${day}::int, ${day + 29}::int) as d, generate_series(1, ${perDay}::int) as i`;
  }
}

test("thirty days of a year that is all pending", async () => {
  const one = await createDatabase();
  const on = connect({ url: one.url });
  try {
    await one.sql`select rollup.set_reporting_timezone(1, 'UTC'), rollup.set_reporting_events_rollup(1, true)`;
    await one.sql`select rollup.backfill(1)`;
    await one.sql`select rollup.set_write_mode(1, 'append')`;
    await one.sql`alter table rollup.deltas set (autovacuum_enabled = off)`;
    await pendingYear(one.sql);
    await one.sql`vacuum analyze`;
    const [deltas] = await one.sql<{ all: number; wanted: number }[]>`
      select count(*)::int as all, (count(*) filter (where event_name = 'first_response' and date >= '2025-06-01' and date < '2025-07-01'))::int as wanted
      from rollup.deltas where account_id = 1`;
    assert.ok((deltas?.all ?? 0) >= 365 * 100, `${deltas?.all} deltas`);
    const asked = {
      ...question,
      account: 1,
      since: "2025-06-01 00:00Z",
      until: "2025-07-01 00:00Z",
    };
    assert.equal(await planOf(on, asked), { faults: [], rollups: true });
    for (const metric of ["avg_first_response_time", "bot_handoffs_count", "resolutions_count"]) {
      for (const [dimension, id] of [
        ["account", null],
        ["agent", 3],
      ] as const) {
        assert.equal(await wrongAnswers(on, "timeseries", { ...asked, metric, dimension, id }), []);
        assert.equal(
          await wrongAnswers(on, "aggregate", {
            ...asked,
            metric,
            dimension,
            id,
            businessHours: true,
          }),
          [],
        );
      }
    }
    assert.equal(await wrongAnswers(on, "summary", { ...asked, dimension: "agent" }), []);

    const touched = await pages(
      on,
      "select * from rollup.timeseries(1, 'avg_first_response_time', '2025-06-01', '2025-07-01')",
    );
    assert.ok(
      touched < 1.5 * (deltas?.wanted ?? 0),
      `${touched} pages for ${deltas?.wanted} deltas`,
    );

    const [view] = await one.sql<{ wrong: string }[]>`
      select count(*) as wrong
      from (
        select date, count, count_value, count_value_business_hours, sum_value
        from rollup.daily_rollups
        where account_id = 1 and dimension_type = 'account' and metric = 'first_response'
      ) as r
      full join (
        select created_at::date as date, count(*), count(value) as values, count(value_in_business_hours) as business, sum(value)::numeric
        from public.reporting_events where name = 'first_response' group by 1
      ) as e on e.date = r.date
      where (r.count, r.count_value, r.count_value_business_hours, r.sum_value) is distinct from (e.count, e.values, e.business, e.sum)`;
    assert.equal(view, { wrong: "0" });
    const [handoffs] = await one.sql<{ wrong: string }[]>`
      select count(*) as wrong
      from (
        select date, dimension_id, count from rollup.daily_rollups
        where account_id = 1 and dimension_type = 'agent' and metric = 'bot_handoffs_count'
      ) as r
      full join (
        select created_at::date as date, user_id::bigint as dimension_id, count(distinct conversation_id)
        from public.reporting_events where name = 'conversation_bot_handoff' group by 1, 2
      ) as e using (date, dimension_id)
      where r.count is distinct from e.count`;
    assert.equal(handoffs, { wrong: "0" });
  } finally {
    await on.end();
    await one.drop();
  }
});

test.run();
