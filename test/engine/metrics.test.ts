/** The registry, written out. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { database } from "../support/database.js";

const sql = database();

test("event metrics", async () => {
  const rows =
    await sql`select concat_ws(' ', event_name, metric, payload) as line from rollup.event_metrics order by 1`;
  assert.equal(
    rows.map(({ line }) => line),
    [
      "conversation_bot_handoff bot_handoffs_count distinct",
      "conversation_bot_resolved bot_resolutions_count count",
      "conversation_resolved resolution_time duration",
      "conversation_resolved resolutions_count count",
      "first_response first_response duration",
      "reply_time reply_time duration",
    ],
  );
});

test("report metrics", async () => {
  const rows = await sql`
    select concat_ws(' ', report_metric, aggregate, coalesce(event_name, '-'), coalesce(metric, '-'), coalesce(summary_key, '-')) as line
    from rollup.report_metrics order by 1`;
  assert.equal(
    rows.map(({ line }) => line),
    [
      "avg_first_response_time average first_response first_response avg_first_response_time",
      "avg_resolution_time average conversation_resolved resolution_time avg_resolution_time",
      "bot_handoff_rate rate conversation_bot_handoff - -",
      "bot_handoffs_count count conversation_bot_handoff bot_handoffs_count -",
      "bot_resolution_rate rate conversation_bot_resolved - -",
      "bot_resolutions_count count conversation_bot_resolved bot_resolutions_count -",
      "bot_resolutions_net_count net count conversation_bot_resolved - -",
      "conversations_count count - - -",
      "incoming_messages_count count - - -",
      "median_first_response_time median first_response - -",
      "median_reply_time median reply_time - -",
      "median_resolution_time median conversation_resolved - -",
      "outgoing_messages_count count - - -",
      "p90_first_response_time p90 first_response - -",
      "p90_reply_time p90 reply_time - -",
      "p90_resolution_time p90 conversation_resolved - -",
      "reply_time average reply_time reply_time avg_reply_time",
      "resolutions_count count conversation_resolved resolutions_count resolved_conversations_count",
      "unique_resolutions_count distinct count conversation_resolved - -",
    ],
  );
});

test("the events whose conversations are remembered have the names that the ledger gives them", async () => {
  const rows =
    await sql`select name::rollup.distinct_event::text as name from unnest(rollup.distinct_event_names()) as name`;
  assert.equal(
    rows.map(({ name }) => name),
    ["conversation_bot_handoff"],
  );
});

test.run();
