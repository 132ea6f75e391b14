/** Ordinary clients notice nothing: every way of changing rows is tracked. */

import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { connect, database } from "../support/database.js";
import { accountIn, assertExactEverywhere, insert, stored } from "./support.js";

const sql = database();

function line(account: number, count: number, sum: number): string {
  return `2026-02-11 account ${account} reply_time ${count} ${sum} 0`;
}

test("COPY", async () => {
  const account = await accountIn("UTC");
  const copy = await sql`
    copy public.reporting_events (name, value, value_in_business_hours, account_id, created_at) from stdin`.writable();
  const rows = Array.from(
    { length: 5000 },
    () => `reply_time\t2\t\\N\t${account}\t2026-02-11 12:00:00\n`,
  );
  await pipeline(Readable.from(rows), copy);
  assert.equal(await stored(account), [line(account, 5000, 10000)]);
  await assertExactEverywhere(account);
});

test("insert … returning", async () => {
  const account = await accountIn("UTC");
  const rows = await sql`
    insert into public.reporting_events (name, value, account_id, created_at)
    values ('reply_time', 1, ${account}, '2026-02-11'), ('reply_time', 2, ${account}, '2026-02-11') returning id, value`;
  assert.equal(
    rows.map(({ value }) => value),
    [1, 2],
  );
  assert.equal(await stored(account), [line(account, 2, 3)]);
});

test("insert … on conflict do nothing, do update", async () => {
  const account = await accountIn("UTC");
  const put = (clause: string, value: number) =>
    sql.unsafe(`
      insert into public.reporting_events (id, name, value, account_id, created_at)
      values (${-account}, 'reply_time', ${value}, ${account}, '2026-02-11'), (${-account - 100000}, 'reply_time', 10, ${account}, '2026-02-11')
      on conflict (id) ${clause}`);
  await put("do nothing", 1);
  await put("do nothing", 2);
  assert.equal(await stored(account), [line(account, 2, 11)]);
  await put("do update set value = excluded.value", 3);
  assert.equal(await stored(account), [line(account, 2, 13)]);
  await sql`delete from public.reporting_events where id = ${-account}`;
  await put("do update set value = excluded.value + 1", 5);
  assert.equal(await stored(account), [line(account, 2, 16)]);
  await assertExactEverywhere(account);
});

test("merge", async () => {
  const account = await accountIn("UTC");
  await insert(
    sql,
    account,
    { name: "reply_time", value: 1, value_in_business_hours: null },
    { name: "reply_time", value: 2 },
  );
  await sql`
    merge into public.reporting_events as e
    using (values (1::float8, 'update'), (2, 'delete'), (3, 'insert')) as w (value, what)
      on e.account_id = ${account} and e.value = w.value
    when matched and w.what = 'update' then update set value = 100
    when matched and w.what = 'delete' then delete
    when not matched then insert (name, value, account_id, created_at) values ('reply_time', w.value, ${account}, '2026-02-11')`;
  assert.equal(await stored(account), [line(account, 2, 103)]);
  await assertExactEverywhere(account);
});

test("one statement that deletes and inserts", async () => {
  const account = await accountIn("UTC");
  await insert(sql, account, { name: "reply_time", value: 1 }, { name: "reply_time", value: 2 });
  await sql`
    with gone as (delete from public.reporting_events where account_id = ${account} returning *),
    changed as (
      insert into public.reporting_events (name, value, account_id, created_at)
      select name, value * 10, account_id, created_at from gone
    )
    insert into public.reporting_events (name, value, account_id, created_at) values ('reply_time', 5, ${account}, '2026-02-11')`;
  assert.equal(await stored(account), [line(account, 3, 35)]);
  await assertExactEverywhere(account);
});

test("prepared statements", async () => {
  const account = await accountIn("UTC");
  const client = connect();
  await client.unsafe(`
    prepare put (float8) as insert into public.reporting_events (name, value, account_id, created_at)
    values ('reply_time', $1, ${account}, '2026-02-11')`);
  for (let n = 1; n <= 12; n++) await client.unsafe(`execute put (${n})`);
  await client.end();
  assert.equal(await stored(account), [line(account, 12, 78)]);
  await assertExactEverywhere(account);
});

test("pipelining", async () => {
  const account = await accountIn("UTC");
  const client = connect();
  await Promise.all(
    Array.from(
      { length: 100 },
      (_, n) => client`
        insert into public.reporting_events (name, value, account_id, created_at) values ('reply_time', ${n}, ${account}, '2026-02-11')`,
    ),
  );
  await client.end();
  assert.equal(await stored(account), [line(account, 100, 4950)]);
  await assertExactEverywhere(account);
});

test("statements that touch no row", async () => {
  const account = await accountIn("UTC");
  await sql`insert into public.reporting_events (name, account_id) select 'reply_time', ${account} where false`;
  await sql`update public.reporting_events set value = 1 where account_id = ${account}`;
  await sql`delete from public.reporting_events where account_id = ${account}`;
  assert.equal(await stored(account), []);
});

test("a cascade", async () => {
  const account = await accountIn("UTC");
  await sql.unsafe(`
    create table public.owner_${account} (id int primary key);
    insert into public.owner_${account} values (1), (2);
    alter table public.reporting_events add constraint owner_${account} foreign key (inbox_id)
      references public.owner_${account} on delete cascade not valid`);
  await insert(sql, account, { inbox_id: 1 }, { inbox_id: 1 }, { inbox_id: 2 });
  await sql.unsafe(`delete from public.owner_${account} where id = 1`);
  await assertExactEverywhere(account);
  assert.ok((await stored(account)).includes(`2026-02-11 account ${account} first_response 1 1 1`));
  await sql.unsafe(`
    alter table public.reporting_events drop constraint owner_${account};
    drop table public.owner_${account}`);
});

test.run();
