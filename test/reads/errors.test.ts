/** What a read refuses, and what the error says. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect, database } from "../support/database.js";
import { insertEvents, readerAccount } from "./support.js";

const sql = database();
const year = "'2026-01-01', '2027-01-01'";

interface Refusal {
  code: string;
  message: string;
  hint: string;
}

async function refusal(call: string): Promise<Refusal> {
  try {
    await sql.unsafe(`select * from rollup.${call}`);
  } catch (error) {
    return error as Refusal;
  }
  return { code: "00000", message: "", hint: "" };
}

async function refuses(call: string, code: string, ...words: string[]): Promise<void> {
  const { code: actual, message, hint } = await refusal(call);
  assert.is(actual, code, `${call}: ${message}`);
  for (const word of words) assert.match(`${message}\n${hint}`, word, call);
}

const metricNames = [
  "avg_first_response_time",
  "avg_resolution_time",
  "reply_time",
  "resolutions_count",
  "bot_resolutions_count",
  "bot_handoffs_count",
];

test("an unknown metric: the hint names those there are", async () => {
  const account = await readerAccount("UTC");
  for (const call of [
    `timeseries(${account}, 'open_conversations', ${year})`,
    `aggregate(${account}, 'open_conversations', ${year})`,
    `read_plan(${account}, ${year}, 'open_conversations')`,
  ]) {
    await refuses(call, "RU008", '"open_conversations"', ...metricNames);
  }
  await refuses(`timeseries(${account}, null, ${year})`, "RU009", ...metricNames);
  await refuses(`aggregate(${account}, null, ${year})`, "RU009", ...metricNames);
});

test("a metric that comes from other tables of the host", async () => {
  const account = await readerAccount("UTC");
  for (const metric of [
    "conversations_count",
    "incoming_messages_count",
    "outgoing_messages_count",
  ]) {
    await refuses(`aggregate(${account}, '${metric}', ${year})`, "RU008", metric, "reporting");
  }
});

test("an unknown grouping or dimension: the hint names the choices", async () => {
  const account = await readerAccount("UTC");
  const metric = "'resolutions_count'";
  const groupings = ["hour", "day", "week", "month", "quarter", "year"];
  for (const grouping of ["fortnight", "Day", "range", ""]) {
    await refuses(
      `timeseries(${account}, ${metric}, ${year}, '${grouping}')`,
      "RU008",
      `"${grouping}"`,
      groupings.join(", "),
    );
  }
  await refuses(
    `timeseries(${account}, ${metric}, ${year}, null)`,
    "RU009",
    "p_group_by",
    ...groupings,
  );
  await refuses(`read_plan(${account}, ${year}, null, 'fortnight')`, "RU008", groupings.join(", "));
  for (const call of [
    `timeseries(${account}, ${metric}, ${year}, 'day', 'team', 1)`,
    `aggregate(${account}, ${metric}, ${year}, 'team', 1)`,
    `summary(${account}, 'team', ${year})`,
  ]) {
    await refuses(call, "RU008", '"team"', "account, agent, inbox");
  }
  await refuses(
    `summary(${account}, null, ${year})`,
    "RU009",
    "p_dimension_type",
    "account, agent, inbox",
  );
});

test("an agent or inbox without an id; an account with another's", async () => {
  const account = await readerAccount("UTC");
  for (const dimension of ["agent", "inbox"]) {
    await refuses(
      `timeseries(${account}, 'reply_time', ${year}, 'day', '${dimension}')`,
      "RU009",
      dimension,
      "p_dimension_id",
    );
    await refuses(
      `aggregate(${account}, 'reply_time', ${year}, '${dimension}')`,
      "RU009",
      dimension,
      "p_dimension_id",
    );
  }
  await refuses(
    `aggregate(${account}, 'reply_time', ${year}, 'account', ${account + 1})`,
    "RU008",
    `${account + 1}`,
  );
  assert.is(
    (await refusal(`aggregate(${account}, 'reply_time', ${year}, 'account', ${account})`)).code,
    "00000",
  );
});

test("a range that is reversed, not finite or beyond all clocks", async () => {
  const account = await readerAccount("UTC");
  for (const range of [
    "'2026-01-02', '2026-01-01'",
    "'-infinity', '2026-01-01'",
    "'2026-01-01', 'infinity'",
    "'4713-01-01 BC', '2026-01-01'",
    "'2026-01-01', '294276-12-31'",
  ]) {
    for (const call of [
      `timeseries(${account}, 'resolutions_count', ${range}, 'year')`,
      `aggregate(${account}, 'resolutions_count', ${range})`,
      `summary(${account}, 'agent', ${range})`,
      `read_plan(${account}, ${range})`,
    ]) {
      await refuses(call, "RU003", "2026-01-01");
    }
  }
});

test("NULLs: the error names the argument", async () => {
  const account = await readerAccount("UTC");
  await refuses(`timeseries(null, 'reply_time', ${year})`, "RU009", "p_account_id");
  await refuses(`aggregate(${account}, 'reply_time', null, '2026-01-01')`, "RU009", "p_since");
  await refuses(
    `summary(${account}, 'agent', '2026-01-01', null)`,
    "RU009",
    "rollup.summary",
    "p_until",
  );
  await refuses("read_plan(null, null, null)", "RU009", "p_account_id", "p_since", "p_until");
  assert.is(
    (
      await refusal(
        `timeseries(${account}, 'reply_time', ${year}, p_business_hours => null, p_timezone => null)`,
      )
    ).code,
    "00000",
  );
});

test("a zone that is none: the hint suggests", async () => {
  const account = await readerAccount("UTC");
  assert.is(
    (await refusal(`timeseries(${account}, 'reply_time', ${year}, p_timezone => 'Chennai')`)).code,
    "00000",
  );
  await refuses(
    `timeseries(${account}, 'reply_time', ${year}, p_timezone => 'Amerika/New_York')`,
    "RU001",
    "America/New_York",
  );
  await refuses(
    `aggregate(${account}, 'reply_time', ${year}, p_timezone => 'Asia/Kolkatta')`,
    "RU001",
    "Asia/Kolkata",
  );
  await refuses(`summary(${account}, 'agent', ${year}, p_timezone => 'FOO-5')`, "RU001", "FOO-5");
  await refuses(`read_plan(${account}, ${year}, p_timezone => '')`, "RU001");
});

test("an account that nothing is known of; one known by its row, its settings or an event", async () => {
  const [unknown, byRow, bySettings, byEvent] = [910_001, 910_002, 910_003, 910_004];
  await sql`insert into public.accounts (id) values (${byRow})`;
  await sql`select rollup.set_reporting_events_rollup(${bySettings}, true)`;
  await insertEvents(sql, byEvent, { created_at: "2026-06-01 12:00" });
  for (const call of [
    `timeseries(${unknown}, 'reply_time', ${year})`,
    `aggregate(${unknown}, 'reply_time', ${year})`,
    `summary(${unknown}, 'agent', ${year})`,
    `read_plan(${unknown}, ${year})`,
  ]) {
    await refuses(call, "RU007", `${unknown}`);
  }
  for (const [account, count] of [
    [byRow, "0"],
    [bySettings, "0"],
    [byEvent, "1"],
  ] as const) {
    const [row] = await sql`
      select value, count from rollup.aggregate(${account}, 'resolutions_count', '2026-01-01', '2027-01-01')`;
    assert.equal(row, { value: count, count });
  }
});

test("a database without public.accounts", async () => {
  const own = connect();
  await own`begin`;
  await own`drop table public.accounts`;
  try {
    await own`select * from rollup.summary(910005, 'agent', '2026-01-01', '2027-01-01')`;
    assert.unreachable();
  } catch (error) {
    assert.is((error as Refusal).code, "RU007", String(error));
  }
  await own.end();
});

test.run();
