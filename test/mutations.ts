/** The rules of the engine, each left out the way a careless change would, and the test that then fails. */

/** Per file of sql/: texts, every occurrence of which is replaced. */
type Edits = Record<string, [from: string, to: string][]>;

export interface Mutation {
  rule: string;
  change: string;
  /** SQL for what migrations/ define. */
  schema?: string;
  edits?: Edits;
  /** Test file, and words of the title. */
  killedBy: [file: string, title: string];
}

/** Has a writer do something more for every event that counts. */
function writersAlso(statement: string): Edits {
  return {
    "34_track_events.sql": [
      ["    elsif v_event.counts then\n", `    elsif v_event.counts then\n      ${statement};\n`],
    ],
  };
}

const pendingDeltas = `array(
      select d.ctid from rollup.deltas as d
      where d.account_id = p_account_id
        and (d.date between p_from and p_to or d.generation < v_settings.generation)
    )`;

export const mutations: Mutation[] = [
  {
    rule: "the lock in a statement of its own",
    change: "taken in the statement that reads the ledger, for one event",
    edits: {
      "34_track_events.sql": [
        [
          "and v_event.lockable and rollup.try_lock_account(v_event.account_id::int) then",
          "and v_event.lockable and (v_event.conversation_id is not null or rollup.try_lock_account(v_event.account_id::int)) then",
        ],
        [
          "v_locked := array[v_event.account_id];",
          "v_locked := case when rollup.try_lock_account(v_event.account_id::int) then array[v_event.account_id] end;",
        ],
      ],
      "32_apply.sql": [
        [
          "where c.account_id = p_account_id and c.generation = p_generation;\n    -- With",
          "where rollup.try_lock_account(p_account_id) and c.account_id = p_account_id and c.generation = p_generation;\n    -- With",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "a writer's ledger"],
  },
  {
    rule: "the lock in a statement of its own",
    change: "taken in the statement that reads the settings, for many events",
    edits: {
      "34_track_events.sql": [
        ["s.account_id = any (v_locked) and", "rollup.try_lock_account(s.account_id) and"],
        ["where rollup.try_lock_account(candidate.account_id)", ""],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "lock: several events"],
  },
  {
    rule: "the lock in a statement of its own",
    change: "taken in the statement that reads the deltas, by a fold",
    edits: {
      "33_fold.sql": [
        ["if not rollup.queue_for_account(p_account_id) then\n    return 0;\n  end if;", ""],
        [
          "where p.account_id = p_account_id and p.generation",
          "where rollup.try_lock_account(p_account_id) and p.account_id = p_account_id and p.generation",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "a fold"],
  },
  {
    rule: "the lock in a statement of its own",
    change: "taken in the statement that gathers the events, by a rebuild",
    edits: {
      "42_backfill.sql": [
        ["perform rollup.lock_account(p_account_id, p_patience);", ""],
        [
          "into v_deltas, v_occurrences, v_pending, v_marks;",
          "into v_deltas, v_occurrences, v_pending, v_marks from rollup.lock_account(p_account_id);",
        ],
      ],
    },
    killedBy: ["concurrency/writers.test.ts", "a rebuild that waits is let in"],
  },
  {
    rule: "try-lock only in read committed",
    change: "at every isolation level",
    edits: {
      "34_track_events.sql": [
        [
          "current_setting('transaction_isolation') = 'read committed' as lockable",
          "true as lockable",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "rule: in read committed only"],
  },
  {
    rule: "about 50 locks, counted",
    change: "not counted",
    edits: {
      "34_track_events.sql": [
        [
          "40 - length(coalesce(current_setting('rollup.used', true), '')) as budget",
          "40 as budget",
        ],
      ],
    },
    killedBy: ["concurrency/lock_memory.test.ts", "12,000 statements in one transaction"],
  },
  {
    rule: "about 50 locks, counted",
    change: "as many as one statement likes",
    edits: { "34_track_events.sql": [["limit v_event.budget", ""]] },
    killedBy: ["concurrency/lock_memory.test.ts", "one statement over 12,000 accounts"],
  },
  {
    rule: "counted in a transaction-local setting",
    change: "in a setting of the session",
    edits: {
      "34_track_events.sql": [
        ["41 - v_event.budget), true)", "41 - v_event.budget), false)"],
        ["cardinality(v_locked))), true)", "cardinality(v_locked))), false)"],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "for good"],
  },
  {
    rule: "settings read after the lock",
    change: "read before it, for one event",
    edits: {
      "32_apply.sql": [
        [
          "where c.account_id = p_account_id and c.generation = p_generation\n    and m.event_name",
          "where c.account_id = p_account_id\n    and m.event_name",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "lock: one event (rule"],
  },
  {
    rule: "settings read after the lock",
    change: "read before it, for a conversation",
    edits: {
      "32_apply.sql": [
        [
          "where c.account_id = p_account_id and c.generation = p_generation",
          "where c.account_id = p_account_id",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "lock: one event of a conversation"],
  },
  {
    rule: "settings read after the lock",
    change: "read before it, for an event that goes",
    edits: {
      "34_track_events.sql": [
        [
          "select s.generation, rollup.local_date(e.created_at, s.timezone) into",
          "select v_event.generation, v_event.date into",
        ],
        [
          "if v_locked is not null and rollup.is_applied(v_event.account_id::int, v_event.generation) then",
          "if v_locked is not null then",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "lock: a delete"],
  },
  {
    rule: "rows of an old zone are cleared before the generation moves on",
    change: "it moves on",
    edits: {
      "22_coverage.sql": [
        ["delete from rollup.reporting_events_rollups as r where r.account_id = p_account_id;", ""],
      ],
    },
    killedBy: ["engine/fold.test.ts", "fold clears the rows of an old zone"],
  },
  {
    rule: "no identity column: lastval() is the host's",
    change: "deltas are numbered",
    schema: "create sequence rollup.delta_ids; alter table rollup.deltas add column id bigint",
    edits: {
      "34_track_events.sql": [
        ["tg_op = 'DELETE'", "tg_op = 'DELETE', nextval('rollup.delta_ids')"],
      ],
      "13_calendar.sql": [["), false\n", "), false, null::bigint\n"]],
    },
    killedBy: ["engine/harmless.test.ts", "lastval() is the host's"],
  },
  {
    rule: "deltas without unique key",
    change: "deltas of the same key are added up",
    schema:
      "create unique index deltas_key on rollup.deltas (account_id, generation, date, event_name, user_id, inbox_id, conversation_id, from_delete) nulls not distinct",
    edits: {
      "34_track_events.sql": [
        [
          "tg_op = 'DELETE'\n          );",
          "tg_op = 'DELETE'\n          ) on conflict (account_id, generation, date, event_name, user_id, inbox_id, conversation_id, from_delete) do update set count = deltas.count + excluded.count, sum_value = deltas.sum_value + excluded.sum_value, sum_value_business_hours = deltas.sum_value_business_hours + excluded.sum_value_business_hours;",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "the same event at once"],
  },
  {
    rule: "deltas without foreign key",
    change: "deltas refer to the account's settings",
    schema:
      "alter table rollup.deltas add foreign key (account_id) references rollup.account_settings (account_id)",
    killedBy: ["concurrency/interleavings.test.ts", "settings are locked"],
  },
  {
    rule: "vacuum_truncate off",
    change: "vacuum takes the emptied table from writers",
    schema: "alter table rollup.deltas reset (vacuum_truncate)",
    killedBy: ["engine/harmless.test.ts", "vacuum"],
  },
  {
    rule: "writers never fold",
    change: "whoever holds the lock folds",
    edits: writersAlso("perform rollup.fold_account(v_event.account_id::int)"),
    killedBy: ["engine/harmless.test.ts", "rule: append-only writers"],
  },
  {
    rule: "writers never create temporary tables",
    change: "they collect deltas in one",
    edits: writersAlso(
      "create temporary table if not exists pg_temp.collected (delta rollup.deltas) on commit delete rows",
    ),
    killedBy: ["concurrency/prepared.test.ts", "read committed, prepared, then a commit"],
  },
  {
    rule: "writers never notify",
    change: "they wake the worker",
    edits: writersAlso("perform pg_notify('rollup', '')"),
    killedBy: ["concurrency/prepared.test.ts", "read committed, prepared, then a commit"],
  },
  {
    rule: "writers never enqueue",
    change: "they queue the fold",
    edits: writersAlso("perform rollup_worker.add_job('fold')"),
    killedBy: ["engine/harmless.test.ts", "rule: append-only writers"],
  },
  {
    rule: "writers never enqueue",
    change: "they queue the repair of what they could not keep",
    edits: {
      "34_track_events.sql": [
        [
          "    begin\n      insert into rollup.dirty_marks",
          "    begin\n      perform rollup.enqueue_backfill(v_event.account_id::int);\n      insert into rollup.dirty_marks",
        ],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "fail on the same day"],
  },
  {
    rule: "writers never update settings",
    change: "they note when an account last wrote",
    edits: writersAlso(
      "update rollup.account_settings as s set updated_at = now() where s.account_id = v_event.account_id",
    ),
    killedBy: ["engine/harmless.test.ts", "rule: append-only writers"],
  },
  {
    rule: "a row goes only when count and both sums are 0",
    change: "when its count is 0",
    edits: {
      "32_apply.sql": [
        [
          "and r.count = 0 and r.sum_value = 0 and r.sum_value_business_hours = 0",
          "and r.count = 0",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "rule: count and both sums"],
  },
  {
    rule: "a row goes only when count and both sums are 0",
    change: "when count and value are 0",
    edits: {
      "32_apply.sql": [
        ["and r.sum_value = 0 and r.sum_value_business_hours = 0", "and r.sum_value = 0"],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "rule: count and both sums"],
  },
  {
    rule: "a row goes only when count and both sums are 0",
    change: "changes that add only to sums are left out",
    edits: {
      "32_apply.sql": [
        [
          "where t.count <> 0 or m.payload = 'duration' and (t.sum_value <> 0 or t.sum_value_business_hours <> 0)",
          "where t.count <> 0",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "rule: count and both sums"],
  },
  {
    rule: "no initialisers in declare",
    change: "one that looks up the registry",
    edits: {
      "34_track_events.sql": [
        ["  v_sign int;\n", "  v_sign int;\n  v_names text[] := rollup.event_names();\n"],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "rule: all code inside the exception block"],
  },
  {
    rule: "all executable code inside the exception block",
    change: "the accounts are found before it",
    edits: {
      "34_track_events.sql": [
        [
          "begin\n  begin\n    v_sign",
          "begin\n  perform rollup.writer_settings(e.account_id) from events as e;\n  begin\n    v_sign",
        ],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "rule: all code inside the exception block"],
  },
  {
    rule: "all executable code inside the exception block",
    change: "truncate has none",
    edits: {
      "34_track_events.sql": [
        [
          "  exception when others then\n    raise warning 'rollup: truncate",
          "  exception when query_canceled then\n    raise warning 'rollup: truncate",
        ],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "truncate while dirty marks cannot be written"],
  },
  {
    rule: "a mark without date when the date itself fails",
    change: "none",
    edits: {
      "34_track_events.sql": [
        [
          "select distinct s.account_id, null::date, now(), v_error\n        from events as e",
          "select distinct s.account_id, null::date, now(), v_error\n        from events as e join rollup.dirty_marks as m on m.account_id = e.account_id",
        ],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "rule: a mark without date"],
  },
  {
    rule: "dirty marks without a key",
    change: "one mark a day",
    schema:
      "create unique index dirty_marks_key on rollup.dirty_marks (account_id, date) nulls not distinct",
    edits: {
      "34_track_events.sql": [
        [
          "where e.name = any (rollup.event_names());\n    exception",
          "where e.name = any (rollup.event_names())\n      on conflict do nothing;\n    exception",
        ],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "fail on the same day"],
  },
  {
    rule: "after some 40 firings append without an exception block",
    change: "always with one",
    edits: {
      "34_track_events.sql": [["if v_event.budget > 0 then\n", "if true then\n"]],
    },
    killedBy: ["engine/harmless.test.ts", "rule: append without after some 40 firings"],
  },
  {
    rule: "truncate only appends account-wide marks",
    change: "it deletes the rollups",
    edits: {
      "34_track_events.sql": [
        [
          "where s.reporting_timezone is not null;\n  exception",
          "where s.reporting_timezone is not null;\n    delete from rollup.reporting_events_rollups;\n  exception",
        ],
      ],
    },
    killedBy: ["engine/triggers.test.ts", "truncate marks every account"],
  },
  {
    rule: "truncate marks every account with a zone",
    change: "and those without",
    edits: {
      "34_track_events.sql": [
        ["where s.reporting_timezone is not null;\n  exception", ";\n  exception"],
      ],
    },
    killedBy: ["engine/triggers.test.ts", "truncate marks every account"],
  },
  {
    rule: "ledger unique nulls not distinct",
    change: "nulls distinct",
    schema: `
      do $$
      declare
        v_name text := (select conname from pg_constraint where conrelid = 'rollup.ledger'::regclass and contype = 'u');
      begin
        execute format('alter table rollup.ledger drop constraint %I', v_name);
        execute format('alter table rollup.ledger add constraint %I unique (account_id, event_name, conversation_id, date, user_id, inbox_id)', v_name);
      end
      $$`,
    killedBy: ["engine/distinct.test.ts", "rule: nulls not distinct"],
  },
  {
    rule: "whole sequences of dates, before and after",
    change: "only up to the date touched",
    edits: {
      "32_apply.sql": [
        [
          "select distinct c.event_name, c.conversation_id from unnest(p_changes) as c",
          "select c.event_name, c.conversation_id, max(c.date) as date from unnest(p_changes) as c group by 1, 2",
        ],
        [
          "and l.conversation_id = touched.conversation_id\n    ) as rows",
          "and l.conversation_id = touched.conversation_id\n        and l.date <= touched.date\n    ) as rows",
        ],
      ],
    },
    killedBy: ["engine/distinct.test.ts", "rule: whole sequences"],
  },
  {
    rule: "whole sequences of dates, before and after",
    change: "one event always comes last",
    edits: { "32_apply.sql": [["or v_last > p_date then", "then"]] },
    killedBy: ["engine/distinct.test.ts", "rule: whole sequences"],
  },
  {
    rule: "whole sequences of dates, before and after",
    change: "one event looks only at the last date of the account",
    edits: {
      "32_apply.sql": [
        [
          "max(l.date) filter (where l.user_id = p_user_id), max(l.date) filter (where l.inbox_id = p_inbox_id)",
          "max(l.date), max(l.date)",
        ],
      ],
    },
    killedBy: ["engine/distinct.test.ts", "the same conversation at two agents"],
  },
  {
    rule: "ledger entries are legitimately negative in between",
    change: "one event takes those it finds for dates",
    edits: { "32_apply.sql": [["or v_lowest < 1 or", "or"]] },
    killedBy: ["engine/distinct.test.ts", "negative"],
  },
  {
    rule: "a rebuild adjusts later cells by difference",
    change: "it leaves them",
    edits: {
      "42_backfill.sql": [["perform rollup.apply_previous_dates(p_account_id, v_later);", ""]],
    },
    killedBy: ["engine/backfill.test.ts", "rule: later cells by difference"],
  },
  {
    rule: "a rebuild recomputes every cell dated in its range",
    change: "as if nothing came before",
    edits: { "42_backfill.sql": [["v_occurrences || v_before", "v_occurrences"]] },
    killedBy: ["engine/backfill.test.ts", "rule: later cells by difference"],
  },
  {
    rule: "zones are set in read committed only",
    change: "at every isolation level",
    edits: {
      "44_reporting_timezone.sql": [
        ["perform rollup.require_read_committed('set_reporting_timezone');", ""],
      ],
    },
    killedBy: ["engine/settings.test.ts", "a zone is set in read committed only"],
  },
  {
    rule: "generation from a global sequence",
    change: "the last one plus 1",
    edits: {
      "44_reporting_timezone.sql": [["nextval('rollup.generations')", "v_settings.generation + 1"]],
    },
    killedBy: ["engine/settings.test.ts", "rule: a global sequence"],
  },
  {
    rule: "the setter takes no lock",
    change: "it waits for the account's",
    edits: {
      "44_reporting_timezone.sql": [
        [
          "v_generation := nextval",
          "perform pg_advisory_xact_lock(rollup.lock_class(), p_account_id);\n  v_generation := nextval",
        ],
      ],
    },
    killedBy: ["engine/settings.test.ts", "the setter takes no lock"],
  },
  {
    rule: "the setter deletes nothing",
    change: "it clears the rollups of the old zone",
    edits: {
      "44_reporting_timezone.sql": [
        [
          "v_generation := nextval",
          "delete from rollup.reporting_events_rollups as r where r.account_id = p_account_id;\n  v_generation := nextval",
        ],
      ],
    },
    killedBy: ["engine/settings.test.ts", "clears nothing by itself"],
  },
  {
    rule: "the change's own transaction id is not enough",
    change: "the setter records the barrier of a first zone",
    edits: {
      "44_reporting_timezone.sql": [
        [
          "insert into rollup.account_coverage (account_id, generation)\n  select p_account_id, v_generation",
          "insert into rollup.account_coverage (account_id, generation, barrier)\n  select p_account_id, v_generation, pg_current_xact_id()",
        ],
      ],
    },
    killedBy: [
      "concurrency/zone_change.test.ts",
      "a first zone that is set while a younger writer is at it",
    ],
  },
  {
    rule: "the barrier's id is assigned after the settings were seen",
    change: "a transaction that has one already records it",
    edits: {
      "22_coverage.sql": [
        ["v_fresh boolean := pg_current_xact_id_if_assigned() is null", "v_fresh boolean := true"],
      ],
    },
    killedBy: ["concurrency/zone_change.test.ts", "and a rebuild in one transaction claim nothing"],
  },
  {
    rule: "a new zone has a barrier of its own",
    change: "the old one's counts",
    edits: {
      "22_coverage.sql": [["covered = '{}', barrier_passed = false,", "covered = '{}',"]],
    },
    killedBy: ["concurrency/zone_change.test.ts", "another zone beside a read committed writer"],
  },
  {
    rule: "no backend with an old backend_xmin",
    change: "those that have written are looked at, not their snapshots",
    edits: {
      "22_coverage.sql": [[" or age(a.backend_xmin) > age(p_barrier::xid)", ""]],
    },
    killedBy: ["concurrency/zone_change.test.ts", "rule: backend_xmin"],
  },
  {
    rule: "no backend with an old backend_xid",
    change: "snapshots are looked at, not those that have written",
    edits: {
      "22_coverage.sql": [["age(a.backend_xid) > age(p_barrier::xid) or ", ""]],
    },
    killedBy: [
      "concurrency/zone_change.test.ts",
      "beside a read committed writer that has written before",
    ],
  },
  {
    rule: "no prepared transaction with an old snapshot",
    change: "prepared transactions are not looked at",
    edits: {
      "22_coverage.sql": [
        [
          "and not exists (select from pg_prepared_xacts as p where p.database = current_database())",
          "",
        ],
      ],
    },
    killedBy: ["concurrency/zone_change.test.ts", "whose old snapshot is then prepared"],
  },
  {
    rule: "a barrier beyond the present transaction ids counts as passed",
    change: "it is waited for",
    edits: {
      "22_coverage.sql": [
        ["elsif p_barrier > pg_snapshot_xmax(pg_current_snapshot()) and", "elsif false and"],
      ],
    },
    killedBy: ["concurrency/zone_change.test.ts", "came from another server"],
  },
  {
    rule: "the barrier is checked before the statement that gathers",
    change: "after it",
    edits: {
      "42_backfill.sql": [
        ["  claimed := rollup.await_old_writers(p_account_id);\n", ""],
        [
          "into v_deltas, v_occurrences, v_pending, v_marks;",
          "into v_deltas, v_occurrences, v_pending, v_marks;\n  claimed := rollup.await_old_writers(p_account_id);",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "old writer that ends"],
  },
  {
    rule: "backfill: read committed or refuse",
    change: "at every isolation level",
    edits: { "42_backfill.sql": [["perform rollup.require_read_committed(p_function);", ""]] },
    killedBy: ["engine/backfill.test.ts", "errors"],
  },
  {
    rule: "one account per transaction",
    change: "any number",
    edits: {
      "42_backfill.sql": [
        ["perform set_config('rollup.rebuilt_account', p_account_id::text, true);", ""],
      ],
    },
    killedBy: ["engine/backfill.test.ts", "errors"],
  },
  {
    rule: "never the host as a deadlock's victim",
    change: "lock_timeout of the account's lock above deadlock_timeout",
    edits: {
      "22_coverage.sql": [["set lock_timeout = '300ms'", "set lock_timeout = '5s'"]],
    },
    killedBy: ["concurrency/interleavings.test.ts", "who has the host's table"],
  },
  {
    rule: "never the host as a deadlock's victim",
    change: "no lock_timeout in a rebuild",
    edits: {
      "42_backfill.sql": [
        [
          "and must not be the deadlock's victim: see\n-- lock_account.\nset lock_timeout = '300ms'",
          "\n",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "who locks our"],
  },
  {
    rule: "the account's lock before any host table",
    change: "the host's table first, and held for as long as it takes",
    edits: {
      "22_coverage.sql": [
        [
          "begin\n  loop\n    begin\n      perform pg_advisory",
          "begin\n  lock table public.reporting_events in access share mode;\n  loop\n    begin\n      perform pg_advisory",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "an open writer wants the host's table"],
  },
  {
    rule: "never the host as a deadlock's victim",
    change: "no lock_timeout in a repair",
    edits: {
      "45_verify.sql": [["-- See rollup.backfill.\nset lock_timeout = '300ms'", ""]],
    },
    killedBy: ["concurrency/interleavings.test.ts", "victim of repair"],
  },
  {
    rule: "never the host as a deadlock's victim",
    change: "patience also where the transaction has an advisory lock of the host",
    edits: {
      "22_coverage.sql": [
        ["then l.objsubid <> 2 or l.classid <> rollup.lock_class()::oid", "then false"],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "wants the advisory lock"],
  },
  {
    rule: "the host's statement costs little more",
    change: "any number of events is applied inline",
    edits: {
      "34_track_events.sql": [["v_events <= 10000 and ", ""]],
    },
    killedBy: ["engine/harmless.test.ts", "leaves deltas rather than"],
  },
  {
    rule: "harmless whatever the settings",
    change: "several rows for one variable",
    edits: { "34_track_events.sql": [["    limit 1;\n", "    ;\n"]] },
    killedBy: ["engine/harmless.test.ts", "makes none of ours"],
  },
  {
    rule: "the account's lock before any host table",
    change: "verified before it is locked, by a repair",
    edits: { "45_verify.sql": [["perform rollup.begin_rebuild('repair', p_account_id);", ""]] },
    killedBy: ["concurrency/interleavings.test.ts", "while a repair waits"],
  },
  {
    rule: "the account's lock before any host table",
    change: "patience also where the transaction has used the host's table before",
    edits: {
      "22_coverage.sql": [
        ["case when rollup.holds_host_lock() then '0 s' else p_patience end", "p_patience"],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "that who waits for the account has"],
  },
  {
    rule: "a lock_timeout, and retry",
    change: "one attempt",
    edits: { "22_coverage.sql": [["exit when clock_timestamp() > v_deadline;", "exit;"]] },
    killedBy: ["concurrency/interleavings.test.ts", "an open writer wants the host's table"],
  },
  {
    rule: "one snapshot for events and deltas",
    change: "the events, then the deltas",
    edits: {
      "42_backfill.sql": [
        [
          "p_from, p_to) as o\n    ),\n    array(",
          "p_from, p_to) as o\n    )\n  into v_deltas, v_occurrences;\n  select\n    array(",
        ],
        ["into v_deltas, v_occurrences, v_pending, v_marks;", "into v_pending, v_marks;"],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "while a rebuild reads the events"],
  },
  {
    rule: "one snapshot for events and deltas",
    change: "the deltas, then the events",
    edits: {
      "42_backfill.sql": [
        [`    ${pendingDeltas},\n`, ""],
        [
          "into v_deltas, v_occurrences, v_pending, v_marks;",
          "into v_deltas, v_occurrences, v_marks;",
        ],
        [
          "claimed := rollup.await_old_writers(p_account_id);",
          `claimed := rollup.await_old_writers(p_account_id);\n  v_pending := ${pendingDeltas};`,
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "before a rebuild reads the events"],
  },
  {
    rule: "one snapshot for events and deltas",
    change: "the deltas that are there by the time they are deleted",
    edits: {
      "42_backfill.sql": [
        [
          "delete from rollup.deltas as d where d.ctid = any (v_pending);",
          "delete from rollup.deltas as d where d.account_id = p_account_id and d.date between p_from and p_to;",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "while a rebuild reads the events (rule"],
  },
  {
    rule: "one snapshot for events and marks",
    change: "the marks that are there by the time they are deleted",
    edits: {
      "42_backfill.sql": [
        [
          "delete from rollup.dirty_marks as m where m.ctid = any (v_marks);",
          "delete from rollup.dirty_marks as m where m.account_id = p_account_id and m.date between p_from and p_to;",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "its mark stays"],
  },
  {
    rule: "a fold queues for the lock",
    change: "it only tries",
    edits: {
      "33_fold.sql": [
        [
          "  perform pg_advisory_xact_lock(rollup.lock_class(), p_account_id);\n",
          "  return false;\n",
        ],
      ],
    },
    killedBy: ["engine/fold.test.ts", "whose writers always have its lock"],
  },
  {
    rule: "a fold queues for the lock",
    change: "also where others may wait for its transaction",
    edits: {
      "33_fold.sql": [
        ["pg_current_xact_id_if_assigned() is not null or rollup.holds_host_lock()", "false"],
      ],
    },
    killedBy: ["engine/fold.test.ts", "queues for no lock"],
  },
  {
    rule: "one run of an account at a time",
    change: "as many as there are",
    edits: {
      "42_backfill_runs.sql": [
        [
          "when r.state = 'pending' and rollup.is_being_backfilled(r.account_id) then 'waiting'",
          "",
        ],
      ],
    },
    killedBy: ["worker/backfill_runs.test.ts", "a cancellation that is not committed yet"],
  },
  {
    rule: "a run is one job",
    change: "whoever has been given its place works on",
    edits: { "42_backfill_runs.sql": [["or r.job_id <> p_job_id then", "then"]] },
    killedBy: ["engine/backfill_runs.test.ts", "not the run's any more"],
  },
  {
    rule: "a chunk is tried five times",
    change: "what cannot succeed too",
    edits: {
      "42_backfill_runs.sql": [
        [
          "v_permanent boolean := rollup.is_permanent_error(p_sqlstate)",
          "v_permanent boolean := false",
        ],
      ],
    },
    killedBy: ["engine/backfill_runs.test.ts", "fails with 55000"],
  },
  {
    rule: "a chunk is tried five times",
    change: "a lock conflict counts",
    edits: {
      "42_backfill_runs.sql": [
        [
          "case when rollup.is_lock_conflict(sqlstate) then 'waiting' else 'failed' end",
          "'failed'",
        ],
      ],
    },
    killedBy: ["engine/backfill_runs.test.ts", "a lock that somebody has"],
  },
  {
    rule: "coverage belongs to a table that was never changed behind the triggers",
    change: "triggers are looked at without xmin",
    edits: {
      "47_host_table.sql": [["format('%s %s', g.tgenabled, g.xmin)", "g.tgenabled::text"]],
    },
    killedBy: ["engine/host_table.test.ts", "triggers disabled and enabled again"],
  },
  {
    rule: "coverage belongs to a table that was never changed behind the triggers",
    change: "coverage goes, but a rebuild under way may claim",
    edits: {
      "47_host_table.sql": [
        [
          "set generation = nextval('rollup.generations'), updated_at = now()",
          "set updated_at = now()",
        ],
        [
          "  select count(*) into v_accounts from distrusted;",
          "  select count(*) into v_accounts from distrusted;\n  update rollup.account_coverage set covered = '{}' where account_id <> 1;",
        ],
      ],
    },
    killedBy: ["engine/host_table.test.ts", "a rebuild under way claims nothing"],
  },
];
