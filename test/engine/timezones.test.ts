/** Which names of zones are valid, and what is suggested for others. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { database } from "../support/database.js";

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
  assert.match((await find("Berlin")).hint ?? "", "Europe/Berlin");
});

test("a name of Rails suggests its IANA name", async () => {
  assert.match((await find("Chennai")).hint ?? "", "Asia/Kolkata");
  assert.match((await find("Eastern Time (US & Canada)")).hint ?? "", "America/New_York");
  assert.match((await find("eastern time (us & canada)")).hint ?? "", "America/New_York");
});

test("every IANA name given for a name of Rails is listed", async () => {
  const missing = await sql`
    select r.name, r.iana from rollup.rails_timezones() as r
    where not exists (select from rollup.timezones() as z where z.name = r.iana)`;
  assert.equal([...missing], []);
});

test("what PostgreSQL takes for a zone and nobody else does", async () => {
  for (const name of [
    "FOO-5",
    "<+05>-05",
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
