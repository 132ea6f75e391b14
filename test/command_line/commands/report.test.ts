import { test } from "uvu";
import * as assert from "uvu/assert";
import { readReport } from "../../../src/command_line/report.js";
import { chart } from "../../../src/command_line/terminal/chart.js";
import { duration, whole } from "../../../src/command_line/terminal/format.js";
import { open } from "../../../src/database/connection.js";
import { cli, startCli, terminal } from "../../support/cli.js";
import { database, databaseUrl } from "../../support/database.js";
import { addHistory } from "./support.js";

const sql = database();
const january = ["--since", "2026-01-01", "--until", "2026-02-01"];

test.before(async () => {
  await addHistory(sql, { timezone: "America/New_York" });
  await sql`select rollup.backfill(1)`;
  await sql`select rollup.set_reporting_events_rollup(1, true)`;
  await addHistory(sql, { account: 2, events: 40 });
});

test("numbers and spans of time for people", () => {
  assert.equal(["12345", 7n, null].map(whole), ["12,345", "7", "–"]);
  const spans: [number, string][] = [
    [0, "0 ms"],
    [0.0421, "42 ms"],
    [1.25, "1.3 s"],
    [42.4, "42 s"],
    [60, "1 min"],
    [200, "3 min 20 s"],
    [3600, "1 h"],
    [7500, "2 h 5 min"],
    [180000, "2 d 2 h"],
  ];
  for (const [seconds, text] of spans) assert.is(duration(seconds), text);
});

test("a chart has both axes, round ticks and labels", () => {
  const points = [12, 30, 85, 47, undefined, 20].map((value, index) => ({
    label: `d${index}`,
    value,
  }));
  const drawn = chart(points, { title: "things", format: String, filled: false, width: 60 });
  const lines = drawn.split("\n");
  assert.is(lines[0], "things");
  assert.match(drawn, /^ *90┤/m);
  assert.match(drawn, /^ *10┤/m);
  assert.match(drawn, /^ *0┤/m);
  assert.match(lines.at(-1) as string, /d0 +d1 +d2 +d3 +d4? +d5/);
  for (const line of lines) assert.ok(line.length <= 60, line);
});

test("on a terminal: a chart, the total beside the time before, and where it was read from", async () => {
  const person = terminal(["report", "1", "--metric", "resolutions_count", ...january]);
  await person.until("Account 1: resolutions by day");
  await person.until(/\d┤/);
  await person.until(/01-01 +01-/);
  await person.until("186 · 31 days before: 147 (now +27 %)");
  await person.until("2026-01-01 until 2026-02-01, America/New_York. Read from rollups.");
  assert.is(await person.ended, 0);
});

test("averages in the unit that fits", async () => {
  const person = terminal([
    "report",
    "1",
    "--metric",
    "avg_resolution_time",
    "--group-by",
    "week",
    ...january,
  ]);
  await person.until("Account 1: average resolution time by week (minutes)");
  await person.until(/\d min \d+ s over 186 events/);
  assert.is(await person.ended, 0);
});

test("metrics of every kind, as text, CSV and JSON", async () => {
  const kinds = await sql<{ name: string; aggregate: string }[]>`
    select min(report_metric) as name, aggregate from rollup.report_metrics
    where event_name is not null and aggregate not in ('count', 'average') group by 2 order by 2`;
  const heads = [];
  for (const { name, aggregate } of kinds) {
    const args = ["report", "1", "--metric", name, "--group-by", "month", ...january];
    const [text, csv, json] = await Promise.all([
      cli(args),
      cli([...args, "--csv"]),
      cli([...args, "--json"]),
    ]);
    const [row] = JSON.parse(json.stdout).timeseries;
    assert.match(csv.stdout, `,${row.value ?? ""},${row.count}\n`);
    heads.push(`${aggregate}: ${text.stdout.split("\n")[1]}`);
  }
  assert.equal(
    heads.map((head) => head.replace(/ +/g, " ")),
    [
      "distinct count: month count",
      "median: month median events",
      "net count: month count",
      "p90: month p90 events",
      "rate: month rate events",
    ],
  );
});

test("into a pipe: a plain table", async () => {
  const { code, stdout } = await cli(["report", "1", "--metric", "resolutions_count", ...january]);
  assert.is(code, 0);
  assert.match(stdout, /^Account 1: resolutions by day\nday +count\n2026-01-01 +6\n/);
  assert.not.match(stdout, "\x1b");
});

test("--json: column names of the database, numbers as text", async () => {
  const args = [
    "report",
    "1",
    "--metric",
    "reply_time",
    "--agent",
    "102",
    "--group-by",
    "month",
    ...january,
    "--json",
  ];
  const { code, stdout } = await cli(args);
  assert.is(code, 0);
  const document = JSON.parse(stdout);
  const [expected] = await sql`
    select value::text, count::text
    from rollup.timeseries(1, 'reply_time', '2026-01-01 05:00Z', '2026-02-01 05:00Z', 'month', 'agent', 102)`;
  assert.equal(
    document.timeseries.map(({ value, count }: Record<string, string>) => ({ value, count })),
    [{ ...expected }],
  );
  assert.equal(
    [document.dimension_type, document.dimension_id, document.group_by, document.timezone],
    ["agent", "102", "month", "America/New_York"],
  );
  assert.is(document.previous.since, "2025-12-01");
  assert.is(document.read_plan[0].source, "rollup");
});

test("--csv", async () => {
  const args = [
    "report",
    "1",
    "--metric",
    "resolutions_count",
    "--since",
    "2026-01-01",
    "--until",
    "2026-01-03",
    "--csv",
    "--group-by",
    "day",
  ];
  const { code, stdout } = await cli(args);
  assert.is(code, 0);
  assert.match(
    stdout,
    /^period,period_start,value,count\n2026-01-01,2026-01-01 05:00:00\+00,6,6\n2026-01-02,2026-01-02 05:00:00\+00,6,6\n$/,
  );
});

test("--csv of an account far from UTC: the period as the account has it, and the instant", async () => {
  await addHistory(sql, { account: 3, until: "2025-11-10 00:00", timezone: "Asia/Kolkata" });
  const range = ["--since", "2025-10-01", "--until", "2025-11-01", "--csv"];
  const metric = ["report", "3", "--metric", "resolutions_count"];
  const months = await cli([...metric, ...range, "--group-by", "month"]);
  assert.match(months.stdout, /^period,.*\n2025-10-01,2025-09-30 18:30:00\+00,\d+,\d+\n$/);
  const hours = await cli([...metric, ...range, "--group-by", "hour", "--business-hours"]);
  assert.match(hours.stdout, /^period,.*\n2025-10-01 00:00,2025-09-30 18:30:00\+00,/);
});

test("chart, total and comparison of a report are of one moment", async () => {
  const own = await open(databaseUrl);
  let writing = true;
  const writer = (async () => {
    while (writing) {
      await sql`
        insert into public.reporting_events (name, value, account_id, created_at, updated_at)
        values ('conversation_resolved', 1, 1, '2026-01-05', now()), ('conversation_resolved', 1, 1, '2025-12-25', now())`;
    }
  })();
  for (let n = 0; n < 20; n++) {
    const { periods, total, previous } = await readReport(own, {
      account: 1,
      metric: "resolutions_count",
      since: "2026-01-01",
      until: "2026-02-01",
    });
    const sum = periods.reduce((sum, { count }) => sum + Number(count), 0);
    assert.is(sum, Number(total.count));
    // As many on either side with every statement of the writer: 186 and 147 before.
    assert.is(Number(total.count) - Number(previous.count), 186 - 147);
  }
  writing = false;
  await writer;
  await sql`delete from public.reporting_events where updated_at > '2026-03-02'`;
  await own.end();
});

test("by agent and by inbox: a table", async () => {
  const agents = await cli(["report", "1", "--agent", ...january]);
  assert.match(
    agents.stdout,
    /by agent\nagent +resolved conversations +resolution time +first response time +reply time\n101 /,
  );
  const inboxes = await cli(["report", "1", "--inbox", ...january, "--json"]);
  const { summary, dimension_type } = JSON.parse(inboxes.stdout);
  const expected = await sql`
    select * from rollup.summary(1, 'inbox', '2026-01-01 05:00Z', '2026-02-01 05:00Z')`;
  assert.is(dimension_type, "inbox");
  assert.equal(
    summary,
    expected.map((row) => ({ ...row })),
  );
  const csv = await cli(["report", "1", "--inbox", ...january, "--csv"]);
  assert.match(csv.stdout, /^dimension_id,resolved_conversations_count,avg_resolution_time,/);
  const sorted = await cli([
    "report",
    "1",
    "--agent",
    "--metric",
    "reply_time",
    ...january,
    "--json",
  ]);
  const replies = JSON.parse(sorted.stdout).summary.map((row: { avg_reply_time: string }) =>
    Number(row.avg_reply_time),
  );
  assert.equal(
    replies,
    [...replies].sort((a, b) => b - a),
  );
});

test("an account without a zone is reported in UTC, from raw events; the last 30 days may be empty", async () => {
  const { code, stdout } = await cli([
    "report",
    "2",
    "--metric",
    "resolutions_count",
    "--since",
    "2026-02-01",
    "--until",
    "2026-03-02",
  ]);
  assert.is(code, 0);
  assert.match(stdout, /UTC\. Read from raw events: /);
  const empty = terminal(["report", "2", "--metric", "avg_resolution_time"]);
  await empty.until("no events");
  assert.is(await empty.ended, 0);
});

test("a reader that has enough is no error", async () => {
  const running = startCli([
    "report",
    "1",
    "--metric",
    "resolutions_count",
    "--group-by",
    "hour",
    ...january,
  ]);
  running.closeStdout();
  const { code, stderr } = await running.result;
  assert.is(code, 0);
  assert.is(stderr, "");
});

test("what cannot be: a message with the remedy", async () => {
  const cases: [string[], number, RegExp][] = [
    [["1"], 2, /a metric is needed\nhint: It is one of .*resolutions_count/],
    [
      ["1", "--metric", "happiness"],
      2,
      /unknown metric "happiness"\nhint: It is one of .*resolutions_count/,
    ],
    [["1", "--metric", "resolutions_count", "--group-by", "fortnight"], 2, /fortnight.*\n.*hour/],
    [
      ["1", "--metric", "resolutions_count", "--agent", "1", "--inbox", "2"],
      2,
      /cannot be used with/,
    ],
    [["1", "--metric", "resolutions_count", "--agent", "x"], 2, /whole number/],
    [
      ["1", "--metric", "resolutions_count", "--since", "2026-02-01", "--until", "2026-02-01"],
      2,
      /empty or reversed/,
    ],
    [["1", "--metric", "resolutions_count", "--since", "2026-13-01"], 2, /is a date/],
    [
      ["1", "--metric", "resolutions_count", "--csv", "--json"],
      2,
      /exclude each other|cannot be used with/,
    ],
    [["99", "--metric", "resolutions_count"], 1, /no account 99\nhint: /],
  ];
  for (const [args, exit, message] of cases) {
    const { code, stdout, stderr } = await cli(["report", ...args]);
    assert.is(code, exit, args.join(" "));
    assert.match(stdout + stderr, message);
    assert.not.match(stderr, /\n {4}at /);
  }
});

test.run();
