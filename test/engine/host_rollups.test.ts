/** The host's own rollup table beside ours: what its backfill writes is the same, and what its live writer gets wrong has a reason. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { cli } from "../support/cli.js";
import { createDatabase, type TestDatabase } from "../support/database.js";
import { sqlstate } from "./support.js";

/** The host's table, its backfill of a day, and its writer: an upsert per event, metric and dimension that counts every hand-off. */
const hostsOwn = `
  create table public.reporting_events_rollups (
    id bigserial primary key, account_id int not null, date date not null, dimension_type varchar not null, dimension_id bigint not null,
    metric varchar not null, count bigint not null default 0, sum_value float8 not null default 0,
    sum_value_business_hours float8 not null default 0, created_at timestamp not null, updated_at timestamp not null,
    unique (account_id, date, dimension_type, dimension_id, metric)
  );
  create schema stand_in;
  create table stand_in.metric (name, metric, summed) as values
    ('conversation_resolved', 'resolutions_count', false), ('conversation_resolved', 'resolution_time', true),
    ('first_response', 'first_response', true), ('reply_time', 'reply_time', true),
    ('conversation_bot_resolved', 'bot_resolutions_count', false);
  create view stand_in.dimension as
    select e.*, d.*
    from public.reporting_events as e
    cross join lateral (values ('account', e.account_id), ('agent', e.user_id), ('inbox', e.inbox_id)) as d (type, dimension)
    where d.dimension is not null;
  create procedure stand_in.backfill(p_account int, p_zone text, p_from date, p_to date) language plpgsql as $$
  declare
    v_date date := p_from;
    v_since timestamp;
    v_until timestamp;
  begin
    while v_date <= p_to loop
      v_since := v_date::timestamp at time zone p_zone at time zone 'UTC';
      v_until := (v_date + 1)::timestamp at time zone p_zone at time zone 'UTC';
      delete from public.reporting_events_rollups where account_id = p_account and date = v_date;
      insert into public.reporting_events_rollups
        (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, created_at, updated_at)
      select p_account, v_date, d.type, d.dimension, m.metric, count(*),
        case when m.summed then coalesce(sum(d.value), 0) else 0 end,
        case when m.summed then coalesce(sum(d.value_in_business_hours), 0) else 0 end, now(), now()
      from stand_in.dimension as d join stand_in.metric as m on m.name = d.name
      where d.account_id = p_account and d.created_at >= v_since and d.created_at < v_until
      group by d.type, d.dimension, m.metric, m.summed
      union all
      select p_account, v_date, d.type, d.dimension, 'bot_handoffs_count', count(distinct d.conversation_id), 0, 0, now(), now()
      from stand_in.dimension as d
      where d.account_id = p_account and d.name = 'conversation_bot_handoff' and d.created_at >= v_since and d.created_at < v_until
      group by d.type, d.dimension having count(d.conversation_id) > 0;
      v_date := v_date + 1;
    end loop;
  end $$;
  create procedure stand_in.write(p_account int, p_name text, p_conversation int, p_value float8, p_at timestamp)
  language sql as $$
    insert into public.reporting_events
      (name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id, created_at, updated_at)
    values (p_name, p_value, p_value, p_account, 1, 1, p_conversation, p_at, p_at);
    insert into public.reporting_events_rollups as r
      (account_id, date, dimension_type, dimension_id, metric, count, sum_value, sum_value_business_hours, created_at, updated_at)
    select p_account, p_at::date, d.type, d.dimension, m.metric, 1,
      case when m.summed then p_value else 0 end, case when m.summed then p_value else 0 end, now(), now()
    from (values ('account', p_account), ('agent', 1), ('inbox', 1)) as d (type, dimension)
    join (select * from stand_in.metric union all values ('conversation_bot_handoff', 'bot_handoffs_count', false)) as m on m.name = p_name
    on conflict (account_id, date, dimension_type, dimension_id, metric) do update set
      count = r.count + 1, sum_value = r.sum_value + excluded.sum_value,
      sum_value_business_hours = r.sum_value_business_hours + excluded.sum_value_business_hours;
  $$`;

async function onHost(work: (database: TestDatabase) => Promise<void>): Promise<void> {
  const database = await createDatabase();
  try {
    await database.sql.unsafe(hostsOwn);
    await work(database);
  } finally {
    await database.drop();
  }
}

test("the host's backfill, day by day over 120 days of three accounts, writes the rows that we keep", async () => {
  await onHost(async ({ sql }) => {
    const zones = ["America/New_York", "Asia/Kolkata", "Europe/London"];
    // Before the zone, and after it through the trigger.
    const events = () => sql`
      insert into public.reporting_events
        (name, value, value_in_business_hours, account_id, inbox_id, user_id, conversation_id, created_at, updated_at)
      select
        (array['conversation_resolved', 'first_response', 'reply_time', 'conversation_bot_resolved', 'conversation_bot_handoff',
          'conversation_opened'])[1 + floor(random() * 6)],
        case when random() > 0.05 then random() * 90000 end, case when random() > 0.05 then floor(random() * 30000) end,
        a, nullif(floor(random() * 4)::int, 0), nullif(floor(random() * 9)::int, 0), nullif(floor(random() * 400)::int, 0), e.at, e.at
      from generate_series(1, 3) as a, generate_series(1, 2500) as i
      cross join lateral (select timestamp '2025-08-01' + random() * interval '121 days' + 0 * i * interval '1 s' as at) as e`;
    await events();
    for (const [index, zone] of zones.entries()) {
      await sql`select rollup.set_reporting_timezone(${index + 1}, ${zone})`;
      await sql`select rollup.backfill(${index + 1})`;
    }
    await events();
    await sql`delete from public.reporting_events where id % 13 = 0`;
    await sql`update public.reporting_events set value = value + 1 where id % 17 = 0`;
    for (const [index, zone] of zones.entries())
      await sql`call stand_in.backfill(${index + 1}, ${zone}, '2025-07-31', '2025-11-30')`;
    const [rows] = await sql<{ host: number; ours: number; days: number }[]>`
      select
        (select count(*)::int from public.reporting_events_rollups) as host,
        (select count(*)::int from rollup.daily_rollups) as ours,
        (select count(distinct date)::int from rollup.daily_rollups) as days`;
    assert.is(rows?.host, rows?.ours);
    assert.ok((rows?.days ?? 0) >= 120 && (rows?.ours ?? 0) > 10_000, JSON.stringify(rows));
    for (const account of [1, 2, 3]) {
      assert.equal([...(await sql`select * from rollup.compare_host_rollups(${account})`)], []);
    }
  });
});

test("on purged days nothing is said about events that are no longer there", async () => {
  await onHost(async ({ sql }) => {
    await sql`select rollup.set_reporting_timezone(1, 'UTC')`;
    await sql`select rollup.backfill(1)`;
    for (const hour of ["10", "11"])
      await sql`call stand_in.write(1, 'conversation_bot_handoff', 1, 0, ${`2026-02-01 ${hour}:00`})`;
    await sql`select rollup.seal(1, '2026-02-01')`;
    await sql`select rollup.purge(1, '2026-02-02')`;
    await sql`select rollup.continue_purge(1)`;
    const rows = await sql<{ line: string }[]>`
      select concat_ws(' ', metric, host_count, count, reason) as line
      from rollup.compare_host_rollups(1) where dimension_type = 'account'`;
    assert.equal(
      rows.map(({ line }) => line),
      [
        "bot_handoffs_count 2 1 more than there are conversations: the events that would tell why were purged",
      ],
    );
  });
});

test("what the host's own writer gets wrong, each with its reason", async () => {
  await onHost(async ({ sql, url }) => {
    await sql`select rollup.set_reporting_timezone(1, 'UTC')`;
    await sql`select rollup.backfill(1)`;
    const write = (name: string, conversation: number, value: number, at: string) =>
      sql`call stand_in.write(1, ${name}, ${conversation}, ${value}, ${at})`;
    const compared = async (from: string | null = null) => {
      const rows = await sql<{ line: string }[]>`
        select concat_ws(' ', to_char(date, 'DD'), metric, host_count, count, host_sum_value, trim_scale(sum_value), reason) as line
        from rollup.compare_host_rollups(1, ${from}) where dimension_type = 'account'`;
      return rows.map(({ line }) => line);
    };
    await write("conversation_resolved", 1, 5, "2026-02-01 10:00");
    await write("conversation_bot_handoff", 1, 0, "2026-02-01 10:00");
    assert.equal(await compared(), []);
    assert.is((await cli(["compare", "1"], { env: { DATABASE_URL: url } })).code, 0);

    await write("conversation_bot_handoff", 1, 0, "2026-02-01 11:00");
    await write("reply_time", 1, 10, "2026-02-02 10:00");
    await write("reply_time", 1, 20, "2026-02-02 11:00");
    await write("first_response", 1, 7, "2026-02-03 10:00");
    await write("first_response", 2, 8, "2026-02-03 10:00");
    await write("conversation_bot_handoff", 2, 0, "2026-02-03 10:00");
    await sql`delete from public.reporting_events where value = 20 or name = 'conversation_bot_handoff' and conversation_id = 2`;
    await sql`update public.reporting_events set value = 9 where value = 7`;
    // An event whose rollups failed to be written, in a day with rows and in one without.
    await sql`
      insert into public.reporting_events (name, value, account_id, conversation_id, created_at, updated_at)
      select name, 3, 1, 1, at::timestamp, at::timestamp
      from (values
        ('conversation_bot_resolved', '2026-02-01 12:00'), ('conversation_resolved', '2026-02-01 12:00'),
        ('conversation_bot_resolved', '2026-02-02 12:00'), ('conversation_resolved', '2026-02-02 12:00'),
        ('reply_time', '2026-02-04 10:00')
      ) as e (name, at)`;
    await write("reply_time", 1, Number.NaN, "2026-02-05 10:00");
    const again = "conversations are counted again with each of their events";
    const deleted = "more than there are events: deleted ones were not subtracted";
    const failed = "the host has no such row: its write failed";
    assert.equal(await compared(), [
      `01 bot_handoffs_count 2 1 0 0 ${again}`,
      `01 bot_resolutions_count 1 0 ${failed}`,
      "01 resolution_time 1 2 5 8 fewer than there are events: some were not counted",
      "01 resolutions_count 1 2 0 0 fewer than there are events: some were not counted",
      `02 bot_resolutions_count 1 0 ${failed}`,
      `02 reply_time 2 1 30 10 ${deleted}`,
      `02 resolution_time 1 3 ${failed}`,
      `02 resolutions_count 1 0 ${failed}`,
      `03 bot_handoffs_count 1 0 ${deleted}`,
      "03 first_response 2 2 15 17 values were changed later",
      "04 reply_time 1 3 the host has no row of this day",
      "05 reply_time 1 1 NaN 0 a value that is not finite was added up",
    ]);
    assert.is((await compared("2026-02-04")).length, 2);
    // Days that are not clean are not compared.
    await sql`insert into rollup.dirty_marks (account_id, date, marked_at) values (1, '2026-02-04', now())`;
    assert.is((await compared("2026-02-04")).length, 1);

    const { code, stdout } = await cli(["compare", "1"], { env: { DATABASE_URL: url } });
    assert.is(code, 1);
    assert.match(stdout, "rows of the host's own rollups differ from ours:");
    assert.match(stdout, new RegExp(`^ +3 {2}${again}$`, "m"));
    assert.match(
      stdout,
      /^2026-02-03 +account 1 +first_response +2 +2 +15 +17 +values were changed later$/m,
    );
    const json = await cli(
      ["compare", "1", "--json", "--from", "2026-02-02", "--to", "2026-02-02"],
      {
        env: { DATABASE_URL: url },
      },
    );
    assert.is(json.code, 1);
    assert.equal(JSON.parse(json.stdout).differences[1], {
      date: "2026-02-02",
      dimension_type: "account",
      dimension_id: "1",
      metric: "reply_time",
      host_count: "2",
      count: "1",
      host_sum_value: 30,
      sum_value: "10",
      host_sum_value_business_hours: 30,
      sum_value_business_hours: "10",
      reason: deleted,
    });
  });
});

test("nothing to compare: it says so, and runs nothing that is in the host's table", async () => {
  const database = await createDatabase();
  const { sql, url } = database;
  try {
    const compare = () => sqlstate(sql`select * from rollup.compare_host_rollups(1)`);
    const message = () =>
      sql`select * from rollup.compare_host_rollups(1)`.then(
        () => "equal",
        ({ message, hint }) => `${message}\n${hint}`,
      );
    await sql`select rollup.set_reporting_events_rollup(1, true)`;
    assert.is(await compare(), "RU002");
    await sql`select rollup.set_reporting_timezone(1, 'UTC')`;
    assert.is(await sqlstate(sql`select rollup.compare_host_rollups(null)`), "RU009");
    assert.is(await sqlstate(sql`select rollup.compare_host_rollups(1, 'infinity')`), "RU003");
    assert.is(
      await sqlstate(sql`select rollup.compare_host_rollups(1, '2026-02-02', '2026-02-01')`),
      "RU003",
    );
    assert.is(await compare(), "RU015");
    assert.match(await message(), "there is no such table");
    const { code, stderr } = await cli(["compare", "1"], { env: { DATABASE_URL: url } });
    assert.is(code, 1);
    assert.match(stderr, "there is no such table");

    const columns =
      "account_id int, date date, dimension_type varchar, dimension_id bigint, metric varchar, count bigint";
    await sql.unsafe(`
      create table public.ran (at timestamptz);
      create function public.trap(int) returns boolean language plpgsql as $$ begin insert into public.ran values (now()); return true; end $$;
      create table public.rows (${columns}, sum_value float8, sum_value_business_hours float8);
      create view public.reporting_events_rollups as select * from public.rows where public.trap(account_id)`);
    assert.is(await compare(), "RU015");
    assert.match(await message(), "it is not a table");
    await sql.unsafe(`
      drop view public.reporting_events_rollups;
      create domain public.seconds as float8;
      create table public.reporting_events_rollups (${columns}, sum_value public.seconds, sum_value_business_hours float8)`);
    assert.match(await message(), "it has no column sum_value of type float8 or numeric");
    await sql.unsafe(`
      alter table public.reporting_events_rollups alter column sum_value type float8;
      alter table public.reporting_events_rollups enable row level security, force row level security;
      create policy trap on public.reporting_events_rollups using (public.trap(account_id))`);
    const [superuser] = await sql`select usesuper from pg_user where usename = current_user`;
    if (!superuser?.usesuper) assert.match(await message(), "row level security hides rows of it");
    await sql`alter table public.reporting_events_rollups disable row level security`;
    await sql`truncate public.reporting_events_rollups`;
    assert.match(await message(), "has no rows of account 1");
    await sql`insert into public.reporting_events_rollups values (1, '2026-02-01', 'account', 1, 'reply_time', 1, 1, 1)`;
    assert.match(await message(), "no day of account 1 from 2026-02-01 to 2026-02-01 is covered");
    assert.is((await sql`select from public.ran`).length, 0);
  } finally {
    await database.drop();
  }
});

test.run();
