/** The host changes zones from many sessions, beside writers, backfills and our own setter: no error, no wait, and its word holds in the end. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { assertExactEverywhere } from "../engine/support.js";
import type { Sql } from "../support/client.js";
import { connect, database } from "../support/database.js";

const sql = database();
/** How many changes each session makes: 250 for the whole of it. */
const changes = Number(process.env.CHANGES ?? 25);
const accounts = [1, 2, 3, 4, 5, 6];
const zones = ["UTC", "Asia/Tokyo", "Chennai", "America/Detroit", "Mars/Olympus", null];

const any = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T;

/** One change as the host makes it, in a transaction or not, that may go back. */
async function change(on: Sql): Promise<void> {
  const account = any(accounts);
  const zone = any(zones);
  const level = any(["read committed", "read committed", "repeatable read", "serializable"]);
  await on.unsafe(`begin isolation level ${level}`);
  if (Math.random() < 0.1) {
    await on`delete from public.accounts where id = ${account}`;
    await on`insert into public.accounts (id, settings) values (${account}, ${on.json({ reporting_timezone: zone })})`;
  } else {
    await on`update public.accounts set settings = ${on.json({ reporting_timezone: zone, n: Math.random() })} where id = ${account}`;
  }
  if (Math.random() < 0.5) {
    await on`
      insert into public.reporting_events (name, value, account_id, conversation_id, user_id, created_at)
      values ('conversation_bot_handoff', 1, ${account}, 1, 7, '2026-02-11 20:00')`;
  }
  await on.unsafe(Math.random() < 0.2 ? "rollback" : "commit");
}

/** Repeats something until told to stop. */
function meanwhile(work: () => Promise<unknown>): { stop(): Promise<void> } {
  let going = true;
  const done = (async () => {
    while (going) await work();
  })();
  return {
    stop: async () => {
      going = false;
      await done;
    },
  };
}

/** What may fail for the host without us: another session of its own was faster. */
const ofItsOwn = new Set(["40001", "23505"]);

test(`${8 * changes} changes from 8 sessions`, async () => {
  await sql`insert into public.accounts (id) select unnest(${accounts}::int[])`;
  const warnings: string[] = [];
  const errors: string[] = [];
  const hosts = Array.from({ length: 8 }, () =>
    connect({
      settings: { lock_timeout: "2s" },
      onNotice: ({ message }) => warnings.push(String(message)),
    }),
  );
  const setter = connect();
  const retried = async (work: () => PromiseLike<unknown>) => {
    try {
      await work();
    } catch (error) {
      const { code, message } = error as { code: string; message: string };
      // A zone taken away meanwhile, or a lock of ours.
      if (!["RU002", "RU006", "55P03"].includes(code)) errors.push(`${code} ${message}`);
    }
  };
  const others = [
    meanwhile(() =>
      retried(
        () =>
          setter`select rollup.set_reporting_timezone(${any(accounts)}, ${any(["UTC", "Berlin", null])})`,
      ),
    ),
    meanwhile(() => retried(() => sql`select rollup.follow_host_settings()`)),
    meanwhile(() => retried(() => sql`select rollup.backfill(${any(accounts)})`)),
    meanwhile(() => retried(() => sql`select rollup.fold()`)),
    meanwhile(() => retried(() => sql`select rollup.enqueue_repairs()`)),
  ];
  await Promise.all(
    hosts.map(async (host) => {
      for (let n = 0; n < changes; n++) {
        try {
          await change(host);
        } catch (error) {
          await host.unsafe("rollback");
          const { code, message } = error as { code: string; message: string };
          if (!ofItsOwn.has(code)) errors.push(`host: ${code} ${message}`);
        }
      }
    }),
  );
  for (const other of others) await other.stop();
  await Promise.all([...hosts, setter].map((client) => client.end()));
  assert.equal(errors, []);
  // A transaction that its own likes have doomed is told so by whatever it does next.
  const harmless = /^(?!rollup)|lock timeout|could not serialize access/;
  assert.equal(
    warnings.filter((line) => !harmless.test(line)),
    [],
  );
  await sql`select rollup.follow_host_settings()`;
  const differing = await sql`
    select a.id, a.settings, s.reporting_timezone
    from public.accounts as a
    left join rollup.account_settings as s on s.account_id = a.id
    where s.reporting_timezone is distinct from case a.settings ->> 'reporting_timezone'
      when 'Chennai' then 'Asia/Kolkata' when 'Mars/Olympus' then null else a.settings ->> 'reporting_timezone' end`;
  assert.equal([...differing], []);
  for (const account of accounts) {
    await sql`select rollup.set_reporting_timezone(${account}, 'Asia/Kolkata')`;
    await sql`select rollup.backfill(${account})`;
    await assertExactEverywhere(account);
  }
});

test.run();
