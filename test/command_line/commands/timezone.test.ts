import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  matchTimezones,
  offsetText,
  parseOffset,
  type Timezone,
} from "../../../src/command_line/timezones.js";
import { cli, terminal } from "../../support/cli.js";
import { database } from "../../support/database.js";
import { addHistory, runs } from "./support.js";

const sql = database();

test.before(async () => {
  for (const account of [1, 2, 3, 4, 5]) await addHistory(sql, { account, events: 10 });
});

async function zoneOf(account: number): Promise<string | null> {
  const [row] = await sql<{ reporting_timezone: string | null }[]>`
    select reporting_timezone from rollup.account_settings where account_id = ${account}`;
  return row?.reporting_timezone ?? null;
}

test("offsets as people write them", () => {
  const offsets: [string, number | undefined][] = [
    ["+5:30", 19800],
    ["5:30", 19800],
    ["+0530", 19800],
    ["-8", -28800],
    ["−8", -28800],
    ["0", 0],
    ["-0", 0],
    ["UTC+2", 7200],
    ["gmt -3", -10800],
    ["+14", 50400],
    ["16", undefined],
    ["5:75", undefined],
    ["york", undefined],
    ["", undefined],
  ];
  for (const [text, seconds] of offsets) assert.is(parseOffset(text), seconds, text);
  assert.equal([19800, -28800, 0, 20700].map(offsetText), ["UTC+5:30", "UTC-8", "UTC", "UTC+5:45"]);
});

test("zones are found by words of their names, and by offset", () => {
  const zone = (name: string, offset: number): Timezone => ({
    name,
    offset,
    is_dst: false,
    local: "",
  });
  const zones = [
    zone("America/New_York", -18000),
    zone("Asia/Kolkata", 19800),
    zone("Etc/GMT-8", 28800),
    zone("Asia/Shanghai", 28800),
    zone("PRC", 28800),
    zone("Europe/York", 0),
  ];
  const found = (words: string) => matchTimezones(zones, words).map(({ name }) => name);
  assert.equal(found("new york"), ["America/New_York"]);
  assert.equal(found("NEW_y"), ["America/New_York"]);
  assert.equal(found("york"), ["Europe/York", "America/New_York"]);
  assert.equal(found("+8"), ["Asia/Shanghai", "Etc/GMT-8", "PRC"]);
  assert.equal(found("+5:30"), ["Asia/Kolkata"]);
  assert.equal(found("atlantis"), []);
  assert.is(found("").length, 6);
});

test("asked for by name: shows what it will cause, asks, and says what to do next", async () => {
  const person = terminal(["timezone", "1"]);
  await person.until("Time zone of account 1");
  person.type("new york");
  await person.until(/❯ America\/New_York/);
  person.press("enter");
  await person.until(/time zone now +none/);
  await person.until(/new time zone +America\/New_York/);
  await person.until("a backfill of its history is queued");
  await person.until("Set it?");
  person.press("enter");
  await person.until("account 1 counts its days in America/New_York");
  await person.until("reporting-rollup backfill 1");
  assert.is(await person.ended, 0);
  assert.is(await zoneOf(1), "America/New_York");
  assert.is((await runs(sql, 1)).length, 1);
});

test("asked for by offset", async () => {
  const person = terminal(["timezone", "2"]);
  await person.until("Time zone of account 2");
  person.type("+5:45");
  await person.until(/❯ Asia\/Kathmandu/);
  person.press("enter");
  await person.until("Set it?");
  person.type("y");
  person.press("enter");
  assert.is(await person.ended, 0);
  assert.is(await zoneOf(2), "Asia/Kathmandu");
});

test("Ctrl-C at either question changes nothing, and ends with 130", async () => {
  const first = terminal(["timezone", "3"]);
  await first.until("Time zone of account 3");
  first.press("ctrl-c");
  await first.until("Nothing was changed");
  assert.is(await first.ended, 130);
  const second = terminal(["timezone", "3", "Asia/Tokyo"]);
  await second.until("Set it?");
  second.press("ctrl-c");
  await second.until("Nothing was changed");
  assert.is(await second.ended, 130);
  assert.is(await zoneOf(3), null);
  assert.not.match(second.output(), /\n {4}at /);
});

test("no is an answer", async () => {
  const person = terminal(["timezone", "3", "Asia/Tokyo"]);
  await person.until("Set it?");
  person.type("n");
  person.press("enter");
  await person.until("Nothing was changed");
  assert.is(await person.ended, 1);
  assert.is(await zoneOf(3), null);
});

test("with flags and --json: the settings row", async () => {
  const { code, stdout } = await cli(["timezone", "3", "asia/TOKYO", "--yes", "--json"]);
  assert.is(code, 0);
  const settings = JSON.parse(stdout);
  assert.is(settings.account_id, 3);
  assert.is(settings.reporting_timezone, "Asia/Tokyo");
  assert.type(settings.generation, "string");
});

test("a change says what it costs; the zone it has already, and none, are fine", async () => {
  await cli(["timezone", "4", "Asia/Tokyo", "--yes"]);
  const change = await cli(["timezone", "4", "Europe/Paris", "--yes"]);
  assert.match(change.stdout, /time zone now +Asia\/Tokyo/);
  assert.match(change.stdout, "all its daily totals are made anew");
  const same = await cli(["timezone", "4", "Europe/Paris"]);
  assert.is(same.code, 0);
  assert.match(same.stdout, "is in Europe/Paris already");
  const off = await cli(["timezone", "4", "none", "--yes"]);
  assert.is(off.code, 0);
  assert.match(off.stdout, "keeps no rollups");
  assert.is(await zoneOf(4), null);
  assert.match((await cli(["timezone", "4", "none"])).stdout, "has no time zone already");
});

test("a name of Rails, written where the host keeps it", async () => {
  await sql`insert into public.accounts (id, settings) values (6, '{"locale": "en"}')`;
  const { code, stdout } = await cli(["timezone", "6", "Chennai", "--yes"]);
  assert.is(code, 0);
  assert.match(stdout, "Chennai is Asia/Kolkata.");
  assert.is(await zoneOf(6), "Asia/Kolkata");
  const setting = async () => {
    const [row] = await sql`select settings from public.accounts where id = 6`;
    return row?.settings;
  };
  assert.equal(await setting(), { locale: "en", reporting_timezone: "Asia/Kolkata" });
  await sql`update public.accounts set settings = '{"reporting_timezone": "Mars/Olympus"}' where id = 6`;
  const status = await cli(["status", "6"]);
  assert.match(status.stdout, '"Mars/Olympus", which stands in public.accounts.settings, is none');
  assert.match((await cli(["status"])).stdout, /account 6: .*"Mars\/Olympus"/);
  assert.is((await cli(["timezone", "6", "none", "--yes"])).code, 0);
  assert.equal(await setting(), {});
});

test("what cannot be: a message with the remedy", async () => {
  const cases: [string[], number, RegExp][] = [
    [["5", "Asia/Kolkatta", "--yes"], 1, /not a time zone.*\nhint: Did you mean Asia\/Kolkata/],
    [["5", "+5:30", "--yes"], 2, /is an offset, not a time zone.*\nhint: .*Asia\/Kolkata/],
    [["5"], 2, /no terminal to ask on.*\nhint: Name one/],
    [["5", "Asia/Tokyo"], 2, /no terminal to ask on.*\nhint: Pass --yes/],
    [["99", "Asia/Tokyo", "--yes"], 1, /no account 99\nhint: /],
    [["x", "Asia/Tokyo"], 2, /whole number above 0/],
    [["0", "Asia/Tokyo"], 2, /whole number above 0/],
    [["99999999999", "Asia/Tokyo"], 2, /whole number above 0/],
  ];
  for (const [args, exit, message] of cases) {
    const { code, stderr } = await cli(["timezone", ...args]);
    assert.is(code, exit, args.join(" "));
    assert.match(stderr, message);
    assert.not.match(stderr, /\n {4}at /);
  }
  assert.is(await zoneOf(5), null);
});

test.run();
