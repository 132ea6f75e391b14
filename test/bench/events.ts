/**
 * What the host writes: single events, by a prepared statement; with *app upsert* also the rollup rows of each, by a
 * second statement. Rails' upsert_all sends that one as text, its values in it.
 */
import type { Script, Statement } from "./driver.js";

const kinds: { name: string; weight: number; metrics: { metric: string; summed?: boolean }[] }[] = [
  { name: "conversation_bot_handoff", weight: 1, metrics: [{ metric: "bot_handoffs_count" }] },
  {
    name: "conversation_resolved",
    weight: 1,
    metrics: [{ metric: "resolutions_count" }, { metric: "resolution_time", summed: true }],
  },
  { name: "conversation_bot_resolved", weight: 1, metrics: [{ metric: "bot_resolutions_count" }] },
  { name: "first_response", weight: 2, metrics: [{ metric: "first_response", summed: true }] },
  { name: "reply_time", weight: 2, metrics: [{ metric: "reply_time", summed: true }] },
];

/** The ranges of the numbers in the scripts; half of the conversations have events already. */
export function numbers({
  accounts = 1,
  conversations = 20_000,
} = {}): Record<string, [number, number]> {
  return {
    account: [1, accounts],
    agent: [1, 20],
    inbox: [1, 5],
    conversation: [1, conversations],
    value: [1, 86_400],
    business: [1, 30_000],
  };
}

/** A table of events: with our trigger, without one, with one that does next to nothing. */
export type Table = "public" | "peer" | "floor";

/** Inserts of single events. */
export function inserts(schema: Table): Script[] {
  return kinds.map(({ name, weight }) => ({ weight, statements: [insertion(schema, name)] }));
}

/** The same without a trigger, each followed by the application's own upsert. */
export function insertsAndUpserts({ prepared = false } = {}): Script[] {
  return kinds.map(({ name, weight, metrics }) => ({
    weight,
    statements: [insertion("peer", name), { sql: upsert(metrics), prepared }],
  }));
}

function insertion(schema: string, name: string): Statement {
  const now = "now() at time zone 'UTC'";
  const sql = `
    insert into ${schema}.reporting_events (name, value, value_in_business_hours, account_id, inbox_id, user_id,
      conversation_id, event_start_time, event_end_time, created_at, updated_at)
    values ('${name}', :value, :business, :account, :inbox, :agent,
      :conversation, ${now}, ${now}, ${now}, ${now})`;
  return { sql, prepared: true };
}

function upsert(metrics: { metric: string; summed?: boolean }[]): string {
  const dimensions = { account: ":account", agent: ":agent", inbox: ":inbox" };
  const rows = metrics.flatMap(({ metric, summed }) =>
    Object.entries(dimensions).map(
      ([dimension, id]) =>
        `(:account, current_date, '${dimension}', ${id}, '${metric}', 1,
          ${summed ? ":value" : "0"}, ${summed ? ":business" : "0"}, now(), now())`,
    ),
  );
  return `
    insert into peer.reporting_events_rollups as r (account_id, date, dimension_type, dimension_id, metric, count,
      sum_value, sum_value_business_hours, created_at, updated_at)
    values ${rows.join(", ")}
    on conflict (account_id, date, dimension_type, dimension_id, metric) do update set
      count = r.count + excluded.count,
      sum_value = r.sum_value + excluded.sum_value,
      sum_value_business_hours = r.sum_value_business_hours + excluded.sum_value_business_hours,
      updated_at = excluded.updated_at`;
}
