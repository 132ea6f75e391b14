/** `report --html`: the page, in a real browser where there is one. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { reportPage } from "../../../src/command_line/html.js";
import { readReport } from "../../../src/command_line/report.js";
import { open } from "../../../src/database/connection.js";
import { findBrowser, look } from "../../support/browser.js";
import { cli } from "../../support/cli.js";
import { database, databaseUrl } from "../../support/database.js";
import { addHistory } from "./support.js";

const sql = database();
const january = ["--since", "2026-01-01", "--until", "2026-02-01"];
const browser = await findBrowser();
let folder: string;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), "reporting-rollup-html-"));
  await addHistory(sql, { timezone: "America/New_York" });
  await sql`select rollup.backfill(1)`;
  await sql`select rollup.set_reporting_events_rollup(1, true)`;
});

test.after(() => rm(folder, { recursive: true, force: true }));

async function page(...args: string[]): Promise<{ file: string; text: string }> {
  const file = join(folder, "report.html");
  const { code, stdout, stderr } = await cli(["report", "1", ...args, ...january, "--html", file]);
  assert.is(code, 0, stderr);
  assert.is(stdout, `Written: ${file}\n`);
  return { file, text: await readFile(file, "utf8") };
}

/** What would be fetched from elsewhere. */
const outside = /\b(?:src|href|srcset|action)\s*=|url\((?!#)|@import|https?:|<script|<link/i;

test("one file without outside references: range, zone, total, charts, tables, sources", async () => {
  const { text } = await page("--metric", "resolutions_count");
  assert.not.match(text, outside);
  for (const part of [
    "<h1>Account 1: resolutions by day</h1>",
    "2026-01-01 until 2026-02-01, the end not included; America/New_York.",
    "186 · 31 days before: 147 (now +27 %)",
    '<tr><td>2026-01-01</td><td class="right">6</td></tr>',
    "Read from rollups.",
    "<td>2026-01-01 05:00:00+00</td><td>2026-02-01 05:00:00+00</td><td>rollup</td><td>clean</td>",
  ])
    assert.ok(text.includes(part), part);
  assert.is(text.match(/<svg/g)?.length, 2);
});

test("agents as a table; an average; an empty range", async () => {
  const { text: agents } = await page("--agent");
  assert.not.match(agents, outside);
  assert.match(agents, "<td>101</td>");
  const { text: median } = await page("--metric", "median_resolution_time", "--business-hours");
  assert.match(median, "Time in business hours only.");
  assert.match(median, "Read from raw events: medians and percentiles do not follow from totals.");
  const { text: empty } = await page("--metric", "bot_resolution_rate", "--agent", "999");
  assert.match(empty, "<p>no events</p>");
  assert.not.match(empty, "<svg");
});

test("--html beside --csv or --json, and a file that cannot be written", async () => {
  const metric = ["report", "1", "--metric", "resolutions_count"];
  for (const other of ["--csv", "--json"])
    assert.is((await cli([...metric, "--html", join(folder, "x"), other])).code, 2);
  const { code, stderr } = await cli([...metric, "--html", join(folder, "none", "x.html")]);
  assert.is(code, 1);
  assert.match(stderr, /Cannot write .*none.*ENOENT/);
});

async function hostilePage(): Promise<string> {
  const own = await open(databaseUrl);
  const report = await readReport(own, {
    account: 1,
    metric: "resolutions_count",
    since: "2026-01-01",
    until: "2026-02-01",
    heatMap: true,
  });
  await own.end();
  const evil = `<script>document.title = "evil"</script>"'&<img onerror=1>`;
  report.window.timezone = evil;
  for (const segment of report.plan) segment.reason = evil;
  for (const period of report.periods) period.period = evil;
  return reportPage(evil, { ...report, groupBy: evil }, false);
}

test("whatever comes from elsewhere is text", async () => {
  assert.not.match(await hostilePage(), /<script|<img/);
});

const testOrSkip = browser === undefined ? test.skip : test;
const without =
  browser === undefined ? "skipped: there is no Chromium (apt-get install chromium): " : "";

testOrSkip(`${without}in a browser: bars, a heat map, tables`, async () => {
  const { file } = await page("--metric", "resolutions_count");
  const { dom, colours } = await look(browser as string, file);
  assert.match(dom, "<title>Account 1: resolutions by day</title>");
  assert.is(dom.match(/<tr>/g)?.length, 1 + 31 + 1 + 1);
  // The bars, and in the heat map the cells without events and those with most.
  for (const colour of ["#5070dd", "#f4f7fb", "#1f4e9c"])
    assert.ok((colours.get(colour) ?? 0) > 300, `${colour}: ${colours.get(colour)} pixels`);
});

test.run();
