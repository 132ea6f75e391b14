/** Which names of zones are valid, and what is suggested for others. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect, database } from "../support/database.js";

const sql = database();

async function find(name: string): Promise<{ zone?: string; code?: string; hint?: string }> {
  try {
    const [row] = await sql<{ zone: string }[]>`select rollup.find_timezone(${name}) as zone`;
    return { zone: row?.zone ?? "" };
  } catch (error) {
    const { code, hint } = error as { code: string; hint: string };
    return { code, hint };
  }
}

test("listed zones, without those that are none", async () => {
  const rows = await sql<{ name: string }[]>`select name from rollup.timezones()`;
  const names = rows.map(({ name }) => name);
  for (const name of ["UTC", "America/New_York", "Asia/Calcutta", "Etc/GMT+12"])
    assert.ok(names.includes(name), name);
  const wrong = names.filter((name) =>
    /^(posix|right)\/|^(Factory|localtime|posixrules)$/.test(name),
  );
  assert.equal(wrong, []);
});

test("a listed zone is found in any case, with blanks around it", async () => {
  const rows = await sql<{ name: string; found: string }[]>`
    select name, rollup.find_timezone(' ' || upper(name)) as found
    from unnest('{UTC,Asia/Calcutta,America/Argentina/ComodRivadavia,Etc/GMT-14,Cuba}'::text[]) as z (name)`;
  for (const { name, found } of rows) assert.is(found, name);
});

test("a misspelt name suggests the nearest", async () => {
  const { code, hint } = await find("Amercia/New York");
  assert.is(code, "RU001");
  assert.match(hint ?? "", "America/New_York");
  assert.match((await find("kolkatta")).hint ?? "", "Asia/Kolkata");
  assert.match((await find("Berlim")).hint ?? "", "Europe/Berlin");
});

test("a name of Rails is taken as its IANA name", async () => {
  assert.is((await find("Chennai")).zone, "Asia/Kolkata");
  assert.is((await find("Eastern Time (US & Canada)")).zone, "America/New_York");
  assert.is((await find(" eastern time (us & canada) ")).zone, "America/New_York");
  assert.is((await find("International Date Line West")).zone, "Etc/GMT+12");
  // An IANA name as well.
  assert.is((await find("Singapore")).zone, "Singapore");
  assert.is((await find("UTC")).zone, "UTC");
});

test("every name of Rails is known, whichever names of its zone the server has", async () => {
  const [row] = await sql`
    select count(distinct name)::int as names, count(distinct name) filter (where rollup.known_timezone(name) is null)::int as unknown
    from rollup.rails_timezones()`;
  assert.equal(row, { names: 152, unknown: 0 });
});

test("every listed zone is known by its listed spelling, in any case, and nothing of the session is changed", async () => {
  const session = connect({ settings: { timezone: "Asia/Tokyo" } });
  const wrong = await session`
    select z.name, f.found
    from rollup.timezones() as z
    cross join lateral (values (rollup.listed_timezone(upper(z.name))), (rollup.listed_timezone(z.name))) as f (found)
    where f.found is distinct from z.name`;
  assert.equal([...wrong], []);
  const [row] = await session`select current_setting('timezone') as timezone`;
  assert.is(row?.timezone, "Asia/Tokyo");
  await session.end();
});

test("what PostgreSQL takes for a zone and nobody else does", async () => {
  for (const name of [
    "FOO-5",
    "<+05>-05",
    "PST",
    "America",
    "../etc/passwd",
    "interval",
    "default",
    "posixrules",
    "right/UTC",
    "EST5EDT,M3.2.0,M11.1.0",
    "",
    " ",
  ]) {
    assert.is((await find(name)).code, "RU001", name);
  }
});

test.run();
