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
      ["    elsif v_single then\n", `    elsif v_single then\n      ${statement};\n`],
    ],
  };
}

const pendingDeltas = `array(
      select d.ctid from rollup.deltas as d
      where d.account_id = p_account_id
        and (d.date between p_from and p_to or d.generation < v_settings.generation)
        and (d.date <= v_sealed) is not true
    )`;

export const mutations: Mutation[] = [
  {
    rule: "the lock in a statement of its own",
    change: "taken in the statement that reads the ledger, for one event",
    edits: {
      "34_track_events.sql": [
        [
          "if v_guards > 1 and v_event.inline and rollup.try_lock_account(v_event.account_id::int) then",
          "if v_guards > 1 and v_event.inline and (v_event.conversation_id is not null or rollup.try_lock_account(v_event.account_id::int)) then",
        ],
        [
          "where c.account_id = p_account_id and c.generation = p_generation and c.host_relation = p_relation\n      group by",
          "where rollup.try_lock_account(p_account_id) and c.account_id = p_account_id and c.generation = p_generation and c.host_relation = p_relation\n      group by",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "a writer's ledger"],
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
      "41_rebuild.sql": [
        ["perform rollup.lock_account(p_account_id, p_patience);", ""],
        [
          "into v_totals, v_entries, v_pending, v_marks;",
          "into v_totals, v_entries, v_pending, v_marks from rollup.lock_account(p_account_id);",
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
          "s.inline and current_setting('transaction_isolation') = 'read committed' as inline",
          "s.inline as inline",
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
          "return rollup.guarded_firings() - length(coalesce(current_setting('rollup.used', true), ''));",
          "return rollup.guarded_firings();",
        ],
      ],
    },
    killedBy: ["concurrency/lock_memory.test.ts", "6,000 statements in one transaction"],
  },
  {
    rule: "about 50 locks, counted",
    change: "as many as one statement likes",
    edits: {
      "34_track_events.sql": [["      limit p_limit\n", ""]],
    },
    killedBy: ["concurrency/lock_memory.test.ts", "one statement over 6,000 accounts"],
  },
  {
    rule: "counted in a transaction-local setting",
    change: "in a setting of the session",
    edits: {
      "34_track_events.sql": [["repeat('x', p_count), true);", "repeat('x', p_count), false);"]],
    },
    killedBy: ["engine/harmless.test.ts", "for good"],
  },
  {
    rule: "settings read after the lock",
    change: "read before it, for one event",
    edits: {
      "34_track_events.sql": [
        [
          "where c.account_id = p_account_id and c.generation = p_generation and c.host_relation = p_relation\n  on conflict",
          "where c.account_id = p_account_id\n  on conflict",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "lock: one event (rule"],
  },
  {
    rule: "settings read after the lock",
    change: "read before it, for a conversation",
    edits: {
      "34_track_events.sql": [
        [
          "where c.account_id = p_account_id and c.generation = p_generation and c.host_relation = p_relation\n      group by",
          "where c.account_id = p_account_id\n      group by",
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
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "lock: a delete"],
  },
  {
    rule: "settings read after the lock",
    change: "read before it, for several events",
    edits: {
      "34_track_events.sql": [
        [
          "v_locked := rollup.try_lock_accounts(v_accounts, v_guards - 1);",
          "v_locked := v_accounts;",
        ],
        [
          "perform rollup.apply_or_append(v_deltas, v_locked);",
          "perform rollup.apply_or_append(v_deltas, case when v_accounts is null then v_locked else rollup.try_lock_accounts(v_accounts, v_guards - 1) end);",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "lock: several events"],
  },
  {
    rule: "rollups take deltas of their own generation only",
    change: "any deltas, once the account is locked",
    edits: {
      "34_track_events.sql": [
        [
          "\n      and exists (select from rollup.current_coverage(v_account.account_id) as c where c.generation = v_account.generation)",
          "",
        ],
        [
          "where c.account_id = p_account_id and c.generation = p_generation and c.host_relation = p_relation\n      group by",
          "where c.account_id = p_account_id\n      group by",
        ],
        [
          "where c.account_id = p_account_id and c.generation = p_generation and c.host_relation = p_relation\n  on conflict",
          "where c.account_id = p_account_id\n  on conflict",
        ],
      ],
    },
    killedBy: ["concurrency/zone_change.test.ts", "rule: applied generation"],
  },
  {
    rule: "rows of an old zone are cleared before the generation moves on",
    change: "it moves on",
    edits: {
      "22_coverage.sql": [
        [
          "delete from rollup.reporting_events_rollups as r where r.account_id = p_account_id and (r.date <= v_sealed) is not true;",
          "",
        ],
      ],
    },
    killedBy: ["engine/fold.test.ts", "fold clears the rows of an old zone"],
  },
  {
    rule: "no identity column: lastval() is the host's",
    change: "deltas are numbered",
    schema:
      "create sequence rollup.delta_ids; create function rollup.number_delta() returns trigger language plpgsql as 'begin perform nextval(''rollup.delta_ids''); return new; end'; create trigger number before insert on rollup.deltas for each row execute function rollup.number_delta()",
    killedBy: ["engine/harmless.test.ts", "lastval() is the host's"],
  },
  {
    rule: "deltas without unique key",
    change: "a delta of a key",
    schema:
      "create unique index deltas_key on rollup.deltas (account_id, generation, date, event_name, user_id, inbox_id, conversation_id, from_delete) nulls not distinct",
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
          "    begin\n      execute format(\n        'insert into rollup.dirty_marks",
          "    begin\n      perform rollup.enqueue_backfill(v_event.account_id::int);\n      execute format(\n        'insert into rollup.dirty_marks",
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
    rule: "a row goes only when count, sums and counts of values are 0",
    change: "when its count is 0",
    edits: {
      "32_apply.sql": [
        [
          "    and r.sum_value + t.sum_value = 0 and r.sum_value_business_hours + t.sum_value_business_hours = 0\n    and r.count_value + t.count_value = 0 and r.count_value_business_hours + t.count_value_business_hours = 0\n",
          "",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "rule: count, sums and counts of values"],
  },
  {
    rule: "a row goes only when count, sums and counts of values are 0",
    change: "when count and value are 0",
    edits: {
      "32_apply.sql": [
        [
          "    and r.sum_value + t.sum_value = 0 and r.sum_value_business_hours + t.sum_value_business_hours = 0\n    and r.count_value + t.count_value = 0 and r.count_value_business_hours + t.count_value_business_hours = 0\n",
          "    and r.sum_value + t.sum_value = 0\n",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "rule: count, sums and counts of values"],
  },
  {
    rule: "a row goes only when count, sums and counts of values are 0",
    change: "whatever the counts of values",
    edits: {
      "32_apply.sql": [
        [
          "    and r.count_value + t.count_value = 0 and r.count_value_business_hours + t.count_value_business_hours = 0\n",
          "",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "rule: count, sums and counts of values"],
  },
  {
    rule: "a row goes only when count, sums and counts of values are 0",
    change: "changes that add only to sums are left out",
    edits: {
      "32_apply.sql": [
        [
          "where (m.count, m.sum_value, m.sum_value_business_hours, m.count_value, m.count_value_business_hours) <> (0, 0, 0, 0, 0)",
          "where m.count <> 0",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "rule: count, sums and counts of values"],
  },
  {
    rule: "averages are over the events that have the value",
    change: "every event counts, applied one by one",
    edits: {
      "34_track_events.sql": [
        ["(p_value is not null)::int, (p_value_in_business_hours is not null)::int,", "1, 1,"],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "how many events have a value"],
  },
  {
    rule: "averages are over the events that have the value",
    change: "every event counts, in a delta of one",
    edits: {
      "30_deltas.sql": [["case when p_value is null then 0 else p_sign end", "p_sign"]],
    },
    killedBy: ["engine/track_events.test.ts", "how many events have a value"],
  },
  {
    rule: "averages are over the events that have the value",
    change: "every event counts, in deltas of several",
    edits: {
      "34_track_events.sql": [
        ["sum(e.sign) filter (where rollup.microseconds(e.value) is not null)", "sum(e.sign)"],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "how many events have a value"],
  },
  {
    rule: "averages are over the events that have the value",
    change: "every event counts, in a rebuild",
    edits: {
      "40_raw_events.sql": [["count(e.value) as count_value", "count(*) as count_value"]],
    },
    killedBy: ["engine/backfill.test.ts", "counts null, NaN and infinite values"],
  },
  {
    rule: "an update that changes nothing that counts writes nothing",
    change: "it writes deltas of nothing",
    edits: {
      "34_track_events.sql": [["    having (\n", "    having true or (\n"]],
    },
    killedBy: ["engine/track_events.test.ts", "changes nothing that counts"],
  },
  {
    rule: "an update that changes nothing that counts writes nothing",
    change: "counts of values are taken without their sign",
    edits: {
      "34_track_events.sql": [
        [
          "coalesce(sum(e.sign) filter (where rollup.microseconds(e.value) is not null), 0),\n      coalesce(sum(e.sign) filter (where rollup.microseconds(e.value_in_business_hours) is not null), 0)\n    ) <>",
          "count(rollup.microseconds(e.value)), count(rollup.microseconds(e.value_in_business_hours))\n    ) <>",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "changes nothing that counts"],
  },
  {
    rule: "an event without created_at belongs to no day",
    change: "it counts, in statements of several",
    edits: {
      "34_track_events.sql": [
        [
          "where e.name = any (rollup.event_names()) and e.created_at is not null\n    group by",
          "where e.name = any (rollup.event_names())\n    group by",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "without created_at"],
  },
  {
    rule: "an event without created_at belongs to no day",
    change: "it counts, alone",
    edits: {
      "34_track_events.sql": [
        [
          "e.name = any (rollup.event_names()) and e.created_at is not null and s.account_id is not null as counts",
          "e.name = any (rollup.event_names()) and s.account_id is not null as counts",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "without created_at"],
  },
  {
    rule: "an event without created_at belongs to no day",
    change: "it counts, in a rebuild",
    edits: {
      "40_raw_events.sql": [
        [
          "where case when p_from = '-infinity' and p_to = 'infinity' then d.date is not null else",
          "where case when p_from = '-infinity' and p_to = 'infinity' then true else",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "without created_at"],
  },
  {
    rule: "the trigger works for the host's table only",
    change: "for any",
    edits: {
      "34_track_events.sql": [
        ["if rollup.is_host_relation(tg_relid) is not true then", "if false then"],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "on any other table"],
  },
  {
    rule: "the trigger works for the host's table only",
    change: "for any while there is none",
    edits: {
      "34_track_events.sql": [
        [
          "if rollup.is_host_relation(tg_relid) is not true then",
          "if not rollup.is_host_relation(tg_relid) then",
        ],
      ],
    },
    killedBy: ["engine/track_events.test.ts", "also while there is none"],
  },
  {
    rule: "no initialisers in declare",
    change: "one that looks up the registry",
    edits: {
      "34_track_events.sql": [
        [
          "  v_source text;\n  v_guards int;",
          "  v_source text;\n  v_names text[] := rollup.event_names();\n  v_guards int;",
        ],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "rule: all code inside the exception block"],
  },
  {
    rule: "all executable code inside the exception block",
    change: "the guards are counted before it",
    edits: {
      "34_track_events.sql": [
        [
          "  begin\n    -- Whoever may execute this",
          "  v_guards := rollup.remaining_guards();\n  begin\n    -- Whoever may execute this",
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
          "  exception when others then\n    begin\n      -- As the last resort of track_events",
          "  exception when query_canceled then\n    begin\n      -- As the last resort of track_events",
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
          "where e.account_id is not null and e.name = any (rollup.event_names()) and not exists (",
          "where false and e.name = any (rollup.event_names()) and not exists (",
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
    killedBy: ["engine/harmless.test.ts", "fail on the same day"],
  },
  {
    rule: "after some 40 firings append without an exception block",
    change: "always with one",
    edits: {
      "34_track_events.sql": [
        [
          "      elsif v_guards > 0 then\n        insert into rollup.deltas",
          "      elsif true then\n        insert into rollup.deltas",
        ],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "rule: append without after some 40 firings"],
  },
  {
    rule: "an append is tried with a guard before it is done without",
    change: "it is not",
    edits: {
      "34_track_events.sql": [["if v_guards > 1 and v_event.inline", "if v_event.inline"]],
    },
    killedBy: ["engine/harmless.test.ts", "all that is left is to append, inline"],
  },
  {
    rule: "what has failed is not tried again in its transaction",
    change: "it is",
    edits: {
      "34_track_events.sql": [["    perform set_config('rollup.failed', 'x', true);\n", ""]],
    },
    killedBy: ["engine/locked_tables.test.ts", "rollup.ledger is locked wait once"],
  },
  {
    rule: "what has failed is not tried again in its transaction",
    change: "nor in the session",
    edits: {
      "34_track_events.sql": [
        [
          "    perform set_config('rollup.failed', 'x', true);\n",
          "    perform set_config('rollup.failed', 'x', false);\n",
        ],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "what failed in a savepoint"],
  },
  {
    rule: "an account is marked as a whole once in a transaction",
    change: "each time",
    edits: {
      "34_track_events.sql": [
        [
          "where m.account_id = e.account_id and m.date is null and m.marked_at = now() and m.reason like $2",
          "where m.account_id = e.account_id and m.reason is null and $2 is null",
        ],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "rollup.ledger refuses rows, inline"],
  },
  {
    rule: "the trigger never waits for a lock on a table of ours",
    change: "it waits as long as the host would",
    edits: {
      "34_track_events.sql": [["set lock_timeout = '50ms'\n-- Planning", "-- Planning"]],
    },
    killedBy: ["engine/locked_tables.test.ts", "rollup.ledger is locked by another, inline"],
  },
  {
    rule: "the last mark is waited for, whatever the host's lock_timeout",
    change: "it is not",
    edits: {
      "34_track_events.sql": [
        [
          "      perform set_config('lock_timeout', '0', true);\n      v_error :=",
          "      v_error :=",
        ],
      ],
    },
    killedBy: ["engine/locked_tables.test.ts", "the mark is waited for"],
  },
  {
    rule: "the last mark is made from the events alone",
    change: "of accounts with a zone",
    edits: {
      "34_track_events.sql": [
        [
          "from (%s) as e\n         where e.account_id is not null",
          "from (%s) as e cross join lateral rollup.writer_settings(e.account_id)\n         where e.account_id is not null",
        ],
      ],
    },
    killedBy: ["engine/locked_tables.test.ts", "rollup.account_settings is locked by another"],
  },
  {
    rule: "truncate only appends account-wide marks",
    change: "it deletes the rollups",
    edits: {
      "34_track_events.sql": [
        [
          "where s.reporting_timezone is not null;\n    end if;",
          "where s.reporting_timezone is not null;\n      delete from rollup.reporting_events_rollups;\n    end if;",
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
        ["where s.reporting_timezone is not null;\n    end if;", ";\n    end if;"],
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
      "31_conversations.sql": [
        [
          "select distinct c.event_name, c.conversation_id from unnest(p_conversations) as c",
          "select c.event_name, c.conversation_id, max(c.date) as date from unnest(p_conversations) as c group by 1, 2",
        ],
        [
          "and l.conversation_id = wanted.conversation_id\n$$",
          "and l.conversation_id = wanted.conversation_id and l.date <= wanted.date\n$$",
        ],
      ],
    },
    killedBy: ["engine/distinct.test.ts", "rule: whole sequences"],
  },
  {
    rule: "whole sequences of dates, before and after",
    change: "one event always comes last",
    edits: {
      "34_track_events.sql": [
        [
          "having coalesce(min(l.count) > 0 and max(l.date) <= p_date, true)",
          "having coalesce(min(l.count) > 0, true)",
        ],
      ],
    },
    killedBy: ["engine/distinct.test.ts", "rule: whole sequences"],
  },
  {
    rule: "whole sequences of dates, before and after",
    change: "one event looks only at the last date of the account",
    edits: {
      "34_track_events.sql": [
        [
          "max(l.date) filter (where l.dimension_id = dim.dimension_id) as last_date",
          "max(l.date) as last_date",
        ],
      ],
    },
    killedBy: ["engine/distinct.test.ts", "the same conversation at two agents"],
  },
  {
    rule: "ledger entries are legitimately negative in between",
    change: "one event takes those it finds for dates",
    edits: {
      "34_track_events.sql": [
        [
          "having coalesce(min(l.count) > 0 and max(l.date) <= p_date, true)",
          "having coalesce(max(l.date) <= p_date, true)",
        ],
      ],
    },
    killedBy: ["engine/distinct.test.ts", "negative"],
  },
  {
    rule: "a rebuild adjusts later previous dates by difference",
    change: "it leaves them",
    edits: {
      "41_rebuild.sql": [["  if p_to < 'infinity' then\n", "  if false then\n"]],
    },
    killedBy: ["engine/backfill.test.ts", "rule: later dates by difference"],
  },
  {
    rule: "a rebuild recomputes every previous date dated in its range",
    change: "as if nothing came before",
    edits: {
      "41_rebuild.sql": [
        [
          "where l.account_id = p_account_id\n        and (p_from = '-infinity'",
          "where l.account_id = p_account_id and l.date >= p_from\n        and (p_from = '-infinity'",
        ],
      ],
    },
    killedBy: ["engine/backfill.test.ts", "rule: later dates by difference"],
  },
  {
    rule: "a rebuild writes only what differs",
    change: "it writes all",
    edits: {
      "41_rebuild.sql": [
        ["where rollup.differ(e, a.total)", "where not p_pending or rollup.differ(e, a.total)"],
      ],
    },
    killedBy: ["engine/backfill.test.ts", "writes nothing and returns its rows"],
  },
  {
    rule: "a rebuild removes rows without anything",
    change: "it does not see them",
    edits: {
      "41_rebuild.sql": [["having not p_pending\n      or (", "having ("]],
    },
    killedBy: ["engine/backfill.test.ts", "a row without anything"],
  },
  {
    rule: "remembered is what is counted distinctly",
    change: "every event",
    edits: {
      "11_registry.sql": [
        [
          "return case when p_event_name = any (rollup.distinct_event_names()) then p_conversation_id end;",
          "return p_conversation_id;",
        ],
      ],
    },
    killedBy: ["engine/distinct.test.ts", "is not remembered"],
  },
  {
    rule: "verify compares every structure",
    change: "but the counts of values",
    edits: {
      "41_rebuild.sql": [
        [
          "p_expected.sum_value_business_hours, p_expected.count_value, p_expected.count_value_business_hours\n",
          "p_expected.sum_value_business_hours\n",
        ],
        [
          "p_actual.sum_value_business_hours, p_actual.count_value, p_actual.count_value_business_hours\n",
          "p_actual.sum_value_business_hours\n",
        ],
      ],
    },
    killedBy: ["engine/verify.test.ts", "a wrong count of values is found"],
  },
  {
    rule: "verify compares every structure",
    change: "but the distinct counts",
    edits: {
      "41_rebuild.sql": [
        [
          "where coalesce(e.date, a.date) between p_from and p_to and rollup.differ(e, a)",
          "where false",
        ],
      ],
    },
    killedBy: ["engine/verify.test.ts", "a distinct count gone"],
  },
  {
    rule: "verify compares every structure",
    change: "but the previous dates",
    edits: {
      "41_rebuild.sql": [
        [
          "  ) as a using (event_name, dimension_type, dimension_id, date, previous_date)\n  where e.count is distinct from a.count",
          "  ) as a using (event_name, dimension_type, dimension_id, date, previous_date)\n  where false",
        ],
      ],
    },
    killedBy: ["engine/verify.test.ts", "the count of its day being right"],
  },
  {
    rule: "verify compares every structure",
    change: "but the ledger",
    edits: {
      "41_rebuild.sql": [["having sum(d.expected) <> sum(d.actual)", "having false"]],
    },
    killedBy: ["engine/verify.test.ts", "a ledger row gone"],
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
    rule: "generations of an account only grow",
    change: "there are two of them",
    edits: {
      "20_settings.sql": [["return p_generation + 1;", "return 1 + p_generation % 2;"]],
    },
    killedBy: ["engine/settings.test.ts", "generations of an account only grow"],
  },
  {
    rule: "the setter takes no lock",
    change: "it waits for the account's",
    edits: {
      "44_reporting_timezone.sql": [
        [
          "  v_before := rollup.lock_host_setting(p_account_id);",
          "  perform pg_advisory_xact_lock(rollup.lock_class(), p_account_id);\n  v_before := rollup.lock_host_setting(p_account_id);",
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
          "  v_before := rollup.lock_host_setting(p_account_id);",
          "  delete from rollup.reporting_events_rollups as r where r.account_id = p_account_id;\n  v_before := rollup.lock_host_setting(p_account_id);",
        ],
      ],
    },
    killedBy: ["engine/settings.test.ts", "clears nothing by itself"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "the setter looks who is there, for a first zone",
    edits: {
      "44_reporting_timezone.sql": [
        [
          "insert into rollup.account_coverage (account_id, generation, host_relation)\n    select n.account_id, n.generation, rollup.coverage_of(rollup.host_relation(n.account_id))",
          "insert into rollup.account_coverage (account_id, generation, host_relation, awaited)\n    select n.account_id, n.generation, rollup.coverage_of(rollup.host_relation(n.account_id)), rollup.open_transactions() || 'prepared'::text",
        ],
      ],
    },
    killedBy: [
      "concurrency/zone_change.test.ts",
      "a first zone that is set while a younger writer is at it",
    ],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "looked for before the settings are read",
    edits: {
      "22_coverage.sql": [
        [
          "  v_coverage rollup.account_coverage;\nbegin\n",
          "  v_coverage rollup.account_coverage;\n  v_open text[] := rollup.open_transactions();\nbegin\n",
        ],
        [
          "set awaited = rollup.open_transactions() || 'prepared'::text",
          "set awaited = v_open || 'prepared'::text",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "rule: settings first"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "looked for by a transaction that changes the settings itself",
    edits: {
      "22_coverage.sql": [
        ["\n    and coalesce(current_setting('rollup.changes_settings', true), '') = ''", ""],
      ],
    },
    killedBy: ["concurrency/zone_change.test.ts", "and a rebuild in one transaction claim nothing"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "where nobody has looked, nobody is",
    edits: {
      "22_coverage.sql": [
        [
          "  if v_before is null then\n    return false;",
          "  if v_before is null then\n    return true;",
        ],
      ],
    },
    killedBy: ["concurrency/zone_change.test.ts", "and a rebuild in one transaction claim nothing"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "those that the former zone had to await",
    edits: {
      "22_coverage.sql": [["covered = '{}', awaited = null", "covered = '{}'"]],
    },
    killedBy: ["concurrency/zone_change.test.ts", "another zone beside a read committed writer"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "if it has a transaction id",
    edits: {
      "22_coverage.sql": [["and a.usesysid is not null", "and a.backend_xid is not null"]],
    },
    killedBy: ["concurrency/zone_change.test.ts", "writes later"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "if its activity may be seen",
    edits: {
      "22_coverage.sql": [["and a.usesysid is not null", "and a.backend_type = 'client backend'"]],
    },
    killedBy: ["concurrency/zone_change.test.ts", "a role that is not shown"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "and so is an autovacuum",
    edits: {
      "22_coverage.sql": [["      and a.usesysid is not null\n", ""]],
    },
    killedBy: ["concurrency/zone_change.test.ts", "an autovacuum is not waited for"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "and so is who came later",
    edits: {
      "22_coverage.sql": [
        [
          "v_awaited := rollup.still_awaited(v_awaited);",
          "v_awaited := rollup.open_transactions();",
        ],
      ],
    },
    killedBy: ["concurrency/zone_change.test.ts", "not for those that came since"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "but for what has been prepared meanwhile",
    edits: {
      "22_coverage.sql": [
        [
          "set awaited = rollup.open_transactions() || 'prepared'::text",
          "set awaited = rollup.open_transactions()",
        ],
      ],
    },
    killedBy: ["concurrency/zone_change.test.ts", "whose old snapshot is then prepared"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "and so is what is prepared later",
    edits: {
      "22_coverage.sql": [
        [
          "array(select p.transaction::text from pg_prepared_xacts as p where p.database = current_database())\n",
          "array(select 'prepared' from pg_prepared_xacts as p where p.database = current_database())\n",
        ],
      ],
    },
    killedBy: ["concurrency/zone_change.test.ts", "not for what is prepared later"],
  },
  {
    rule: "whoever may write under an older zone is awaited",
    change: "whatever has its name is it, ended or not",
    edits: {
      "22_coverage.sql": [["v_awaited := rollup.still_awaited(v_awaited);", "null;"]],
    },
    killedBy: ["concurrency/zone_change.test.ts", "transactions of another server"],
  },
  {
    rule: "awaited before the statement that gathers",
    change: "after it",
    edits: {
      "41_rebuild.sql": [
        [
          "  claimed := rollup.await_old_writers(p_account_id)\n    and not exists (select from rollup.host_table_obstacles(rollup.host_relation(p_account_id)));\n",
          "",
        ],
        [
          "into v_totals, v_entries, v_pending, v_marks;",
          "into v_totals, v_entries, v_pending, v_marks;\n  claimed := rollup.await_old_writers(p_account_id)\n    and not exists (select from rollup.host_table_obstacles(rollup.host_relation(p_account_id)));\n",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "old writer that ends"],
  },
  {
    rule: "coverage counts on the table it was claimed on",
    change: "on any of its name",
    edits: {
      "22_coverage.sql": [
        [" and c.host_relation = rollup.coverage_of(rollup.host_relation(p_account_id))\n", "\n"],
      ],
    },
    killedBy: ["engine/seal.test.ts", "begins anew: the host's table is another"],
  },
  {
    rule: "rollups of another table are cleared before days are claimed",
    change: "they stay",
    edits: {
      "22_coverage.sql": [[" or v_coverage.host_relation is distinct from v_relation)\n", ")\n"]],
    },
    killedBy: ["engine/seal.test.ts", "begins anew: the host's table is another"],
  },
  {
    rule: "nothing is claimed while changes do not reach us",
    change: "a rebuild claims what it has rebuilt",
    edits: {
      "41_rebuild.sql": [
        [
          "\n    and not exists (select from rollup.host_table_obstacles(rollup.host_relation(p_account_id)));",
          ";",
        ],
      ],
    },
    killedBy: ["engine/host_table.test.ts", "as long as triggers are missing"],
  },
  {
    rule: "backfill: read committed or refuse",
    change: "at every isolation level",
    edits: {
      "41_rebuild.sql": [["perform rollup.require_read_committed(p_function);", ""]],
    },
    killedBy: ["engine/backfill.test.ts", "errors"],
  },
  {
    rule: "one account per transaction",
    change: "any number",
    edits: {
      "41_rebuild.sql": [
        ["perform set_config('rollup.rebuilt_account', p_account_id::text, true);", ""],
      ],
    },
    killedBy: ["engine/backfill.test.ts", "errors"],
  },
  {
    rule: "never the host as a deadlock's victim",
    change: "lock_timeout of the account's lock above deadlock_timeout",
    edits: {
      "21_locks.sql": [
        [
          "  perform rollup.limit_lock_waits();\n  loop",
          "  perform set_config('lock_timeout', '5s', true);\n  loop",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "who has the host's table"],
  },
  {
    rule: "never the host as a deadlock's victim",
    change: "no lock_timeout in a rebuild",
    edits: {
      "43_backfill.sql": [
        [
          "  perform rollup.limit_lock_waits();\n",
          "  perform set_config('lock_timeout', '0', true);\n",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "who locks our"],
  },
  {
    rule: "never the host as a deadlock's victim",
    change: "no lock_timeout in a repair",
    edits: {
      "46_repair.sql": [
        [
          "  perform rollup.limit_lock_waits();\n",
          "  perform set_config('lock_timeout', '0', true);\n",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "victim of repair"],
  },
  {
    rule: "never the host as a deadlock's victim",
    change: "300 ms, whatever deadlock_timeout is",
    edits: {
      "21_locks.sql": [
        [
          "return least(300, greatest(1, (select s.setting::int from pg_settings as s where s.name = 'deadlock_timeout') / 4));",
          "return 300;",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "with a deadlock_timeout of 100 ms"],
  },
  {
    rule: "the account's lock before any host table",
    change: "the host's table first, and held for as long as it takes",
    edits: {
      "21_locks.sql": [
        [
          "  perform rollup.limit_lock_waits();\n  loop",
          "  lock table public.reporting_events in access share mode;\n  perform rollup.limit_lock_waits();\n  loop",
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "an open writer wants the host's table"],
  },
  {
    rule: "never the host as a deadlock's victim",
    change: "patience also where the transaction has an advisory lock of the host",
    edits: {
      "21_locks.sql": [
        ["then l.objsubid <> 2 or l.classid <> rollup.lock_class()::oid", "then false"],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "wants the advisory lock"],
  },
  {
    rule: "the host's statement costs little more",
    change: "any number of events is applied inline",
    edits: {
      "34_track_events.sql": [
        ["v_guards > 1 and v_events <= rollup.inline_events() and ", "v_guards > 1 and "],
      ],
    },
    killedBy: ["engine/harmless.test.ts", "leaves deltas rather than"],
  },
  {
    rule: "a session outlives changes of the host's columns",
    change: "their types are those of the variables",
    edits: {
      "34_track_events.sql": [["e.account_id::bigint, s.generation", "e.account_id, s.generation"]],
    },
    killedBy: ["engine/track_events.test.ts", "changes types of columns"],
  },
  {
    rule: "harmless whatever the settings",
    change: "several rows for one variable",
    edits: {
      "34_track_events.sql": [["      limit 1;\n", "      ;\n"]],
    },
    killedBy: ["engine/harmless.test.ts", "makes none of ours"],
  },
  {
    rule: "the account's lock before any host table",
    change: "verified before it is locked, by a repair",
    edits: {
      "46_repair.sql": [["perform rollup.begin_rebuild('repair', p_account_id);", ""]],
    },
    killedBy: ["concurrency/interleavings.test.ts", "while a repair waits"],
  },
  {
    rule: "the account's lock before any host table",
    change: "patience also where the transaction has used the host's table before",
    edits: {
      "21_locks.sql": [
        ["case when rollup.holds_host_lock() then '0 s' else p_patience end", "p_patience"],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "that who waits for the account has"],
  },
  {
    rule: "a lock_timeout, and retry",
    change: "one attempt",
    edits: {
      "21_locks.sql": [["exit when clock_timestamp() > v_deadline;", "exit;"]],
    },
    killedBy: ["concurrency/interleavings.test.ts", "an open writer wants the host's table"],
  },
  {
    rule: "one snapshot for events and deltas",
    change: "the events, then the deltas",
    edits: {
      "41_rebuild.sql": [
        [
          "p_from, p_to, false) as d\n    ),\n    array(\n      select d.ctid",
          "p_from, p_to, false) as d\n    )\n  into v_totals, v_entries;\n  select\n    array(\n      select d.ctid",
        ],
        ["into v_totals, v_entries, v_pending, v_marks;", "into v_pending, v_marks;"],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "while a rebuild reads the events"],
  },
  {
    rule: "one snapshot for events and deltas",
    change: "the deltas, then the events",
    edits: {
      "41_rebuild.sql": [
        [`    ${pendingDeltas},\n`, ""],
        ["into v_totals, v_entries, v_pending, v_marks;", "into v_totals, v_entries, v_marks;"],
        [
          "  -- One snapshot for events, deltas and marks",
          `  v_pending := ${pendingDeltas};\n  -- One snapshot for events, deltas and marks`,
        ],
      ],
    },
    killedBy: ["concurrency/interleavings.test.ts", "before a rebuild reads the events"],
  },
  {
    rule: "one snapshot for events and deltas",
    change: "the deltas that are there by the time they are deleted",
    edits: {
      "41_rebuild.sql": [
        [
          "delete from rollup.deltas as d where d.account_id = p_account_id and d.ctid = any (v_pending);",
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
      "41_rebuild.sql": [
        [
          "delete from rollup.dirty_marks as m where m.account_id = p_account_id and m.ctid = any (v_marks);",
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
          "set generation = rollup.next_generation(s.generation), updated_at = now()",
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
  {
    rule: "sealed: deletes do not subtract",
    change: "they do where they are applied",
    edits: {
      "32_apply.sql": [
        [
          "where c.account_id = p_account_id and rollup.delta_counts(d, c.generation, c.sealed_through)",
          "where c.account_id = p_account_id and d.generation = c.generation",
        ],
      ],
    },
    killedBy: [
      "engine/seal.test.ts",
      "deletes of several events do not subtract from sealed days: append",
    ],
  },
  {
    rule: "sealed: deletes do not subtract",
    change: "they do where one is applied by the trigger",
    edits: {
      "34_track_events.sql": [
        [
          "perform rollup.apply(v_account.account_id, v_account.deltas);",
          "update rollup.account_coverage set sealed_through = null where account_id = v_account.account_id;\n      perform rollup.apply(v_account.account_id, v_account.deltas);",
        ],
      ],
    },
    killedBy: [
      "engine/seal.test.ts",
      "deletes of one event after the other do not subtract from sealed days: inline",
    ],
  },
  {
    rule: "sealed: deletes do not subtract",
    change: "they do where they are read",
    edits: {
      "30_deltas.sql": [
        [
          "(select c.sealed_through from rollup.account_coverage as c where c.account_id = p_account_id)",
          "null",
        ],
      ],
    },
    killedBy: [
      "engine/seal.test.ts",
      "deletes of several events do not subtract from sealed days: append",
    ],
  },
  {
    rule: "sealed: decided when a delta is applied or read",
    change: "when the trigger fires",
    edits: {
      "30_deltas.sql": [
        [
          "when p_delta.date <= p_sealed_through then not p_delta.from_delete",
          "when false then false",
        ],
      ],
      "34_track_events.sql": [
        [
          "    where e.name = any (rollup.event_names()) and e.created_at is not null\n    group by",
          "    where e.name = any (rollup.event_names()) and e.created_at is not null\n      and not ($2 and rollup.local_date(e.created_at, s.timezone) <= coalesce(rollup.sealed_through(s.account_id), '-infinity'))\n    group by",
        ],
      ],
    },
    killedBy: [
      "concurrency/interleavings.test.ts",
      "a delete begins before a seal and commits after it",
    ],
  },
  {
    rule: "sealed: both halves of an update count",
    change: "what it takes away does not",
    edits: {
      "30_deltas.sql": [
        [
          "when p_delta.date <= p_sealed_through then not p_delta.from_delete",
          "when p_delta.date <= p_sealed_through then p_delta.count >= 0 and not p_delta.from_delete",
        ],
      ],
    },
    killedBy: [
      "engine/seal.test.ts",
      "both halves of an update still count on sealed days: append",
    ],
  },
  {
    rule: "sealed: late inserts count",
    change: "nothing does",
    edits: {
      "30_deltas.sql": [
        [
          "when p_delta.date <= p_sealed_through then not p_delta.from_delete",
          "when p_delta.date <= p_sealed_through then false",
        ],
      ],
    },
    killedBy: ["engine/seal.test.ts", "late inserts and both halves"],
  },
  {
    rule: "sealed: whatever the generation of the delta",
    change: "only those of the present one count",
    edits: {
      "30_deltas.sql": [
        [
          "when p_delta.date <= p_sealed_through then not p_delta.from_delete",
          "when p_delta.date <= p_sealed_through then not p_delta.from_delete and p_delta.generation = p_generation",
        ],
      ],
    },
    killedBy: [
      "engine/seal.test.ts",
      "sealed days stay when an account begins anew: the host's table was changed behind our back",
    ],
  },
  {
    rule: "a seal folds first",
    change: "it does not",
    edits: {
      "49_seal.sql": [
        [
          "  loop\n    exit when rollup.fold_account(p_account_id) < rollup.fold_size();\n  end loop;\n",
          "",
        ],
      ],
    },
    killedBy: ["engine/seal.test.ts", "sealing further on subtracts"],
  },
  {
    rule: "a seal verifies",
    change: "it does not",
    edits: {
      "49_seal.sql": [
        [
          "array(select distinct v.date from rollup.verify(p_account_id, rollup.first_unsealed_day(p_account_id, null), p_through) as v order by 1)",
          "'{}'::date[]",
        ],
      ],
    },
    killedBy: ["engine/seal.test.ts", "what cannot be sealed"],
  },
  {
    rule: "only clean days are sealed",
    change: "all that agree with the raw events",
    edits: {
      "49_seal.sql": [
        [
          "datemultirange(rollup.days('-infinity', p_through)) - rollup.clean_days(p_account_id),",
          "'{}'::datemultirange,",
        ],
      ],
    },
    killedBy: ["engine/seal.test.ts", "days before the first backfilled one"],
  },
  {
    rule: "the zone of sealed days stays",
    change: "it changes while a seal reads the days",
    edits: {
      "49_seal.sql": [
        [
          "(select s.generation <> v_generation from rollup.account_settings as s where s.account_id = p_account_id)",
          "false",
        ],
      ],
    },
    killedBy: [
      "concurrency/interleavings.test.ts",
      "the zone changes after a seal has read the days",
    ],
  },
  {
    rule: "the zone of sealed days stays",
    change: "it changes before a seal has committed",
    edits: {
      "49_seal.sql": [["  perform rollup.lock_settings(p_account_id);\n", ""]],
    },
    killedBy: [
      "concurrency/interleavings.test.ts",
      "who changes the zone while a seal is about to commit",
    ],
  },
  {
    rule: "the zone of sealed days stays",
    change: "it changes later",
    edits: {
      "44_reporting_timezone.sql": [
        ["and rollup.timezone_obstacle(p_account_id) is not null then", "and false then"],
      ],
    },
    killedBy: ["engine/seal.test.ts", "an account with sealed days keeps its zone"],
  },
  {
    rule: "sealed days are not rebuilt",
    change: "they are",
    edits: {
      "41_rebuild.sql": [["  p_from := greatest(p_from, v_sealed + 1);\n", ""]],
    },
    killedBy: ["engine/seal.test.ts", "a run that was planned before the seal"],
  },
  {
    rule: "sealed days are not rebuilt",
    change: "their pending deltas go with those of an old zone",
    edits: {
      "41_rebuild.sql": [["\n        and (d.date <= v_sealed) is not true", ""]],
    },
    killedBy: ["engine/seal.test.ts", "changed behind our back, and is rebuilt first"],
  },
  {
    rule: "sealed days are not asked to be rebuilt",
    change: "they may be",
    edits: {
      "22_coverage.sql": [["if p_from <= v_through or p_to <= v_through then", "if false then"]],
    },
    killedBy: ["engine/seal.test.ts", "a rebuild of sealed days is refused"],
  },
  {
    rule: "sealed days are not cleared",
    change: "their reporting events rollups are",
    edits: {
      "22_coverage.sql": [
        [
          "delete from rollup.reporting_events_rollups as r where r.account_id = p_account_id and (r.date <= v_sealed) is not true;",
          "delete from rollup.reporting_events_rollups as r where r.account_id = p_account_id;",
        ],
      ],
    },
    killedBy: [
      "engine/seal.test.ts",
      "sealed days stay when an account begins anew: the host's table is another",
    ],
  },
  {
    rule: "sealed days are not cleared",
    change: "their ledger are",
    edits: {
      "22_coverage.sql": [
        [
          "delete from rollup.ledger as l where l.account_id = p_account_id and (l.date <= v_sealed) is not true;",
          "delete from rollup.ledger as l where l.account_id = p_account_id;",
        ],
      ],
    },
    killedBy: [
      "engine/seal.test.ts",
      "sealed days stay when an account begins anew: the host's table is another",
    ],
  },
  {
    rule: "sealed days are not cleared",
    change: "their previous dates are",
    edits: {
      "22_coverage.sql": [
        [
          "delete from rollup.previous_dates as p where p.account_id = p_account_id and (p.date <= v_sealed) is not true;",
          "delete from rollup.previous_dates as p where p.account_id = p_account_id;",
        ],
      ],
    },
    killedBy: [
      "engine/seal.test.ts",
      "sealed days stay when an account begins anew: the host's table is another",
    ],
  },
  {
    rule: "sealed days are not cleared",
    change: "their pending deltas are",
    edits: {
      "22_coverage.sql": [
        [
          "where d.account_id = p_account_id and (d.date <= v_sealed) is not true\n      and (",
          "where d.account_id = p_account_id\n      and (",
        ],
      ],
    },
    killedBy: ["engine/seal.test.ts", "changed behind our back, and is folded first"],
  },
  {
    rule: "sealed days are clean",
    change: "unless marked or uncovered",
    edits: {
      "22_coverage.sql": [["    '{}'\n  ) + rollup.sealed_days(p_account_id);", "    '{}'\n  );"]],
    },
    killedBy: ["engine/seal.test.ts", "a mark on a sealed day"],
  },
  {
    rule: "sealed days are not repaired",
    change: "their marks ask for it",
    edits: {
      "22_coverage.sql": [["  where (m.date <= c.sealed_through) is not true\n", ""]],
    },
    killedBy: ["engine/seal.test.ts", "a mark on a sealed day"],
  },
  {
    rule: "sealed days are not compared",
    change: "they are",
    edits: {
      "45_verify.sql": [
        [
          "rollup.first_unsealed_day(p_account_id, coalesce(p_from, '-infinity'))",
          "coalesce(p_from, '-infinity')",
        ],
      ],
    },
    killedBy: ["engine/seal.test.ts", "damage on sealed days"],
  },
  {
    rule: "unsealed days are rebuilt",
    change: "they stay covered",
    edits: {
      "49_seal.sql": [
        [
          "set sealed_through = null, covered = c.covered - rollup.sealed_days(p_account_id)",
          "set sealed_through = null",
        ],
      ],
    },
    killedBy: ["engine/seal.test.ts", "unsealed days follow"],
  },
  {
    rule: "a last day in part is taken whole, less what comes after its end",
    change: "conversations that have their event after the end stay",
    edits: { "51_sources.sql": [["where e.sign < 0 group by 2", "where e.sign < -1 group by 2"]] },
    killedBy: ["reads/distinct.test.ts", "a last day that ends early"],
  },
  {
    rule: "a last day in part is taken whole, less what comes after its end",
    change: "also where its period is read raw",
    edits: {
      "50_read_plan.sql": [["if not v_days @> p_read.shortened_day then", "if false then"]],
    },
    killedBy: ["reads/distinct.test.ts", "a last day that ends early"],
  },
  {
    rule: "a hand-off counts in the whole range",
    change: "only in its own period",
    edits: {
      "51_sources.sql": [
        [
          "from handoff as h where h.conversation_id = e.conversation_id",
          "from handoff as h where h.conversation_id = e.conversation_id and h.period = e.period",
        ],
      ],
    },
    killedBy: ["reads/metrics.test.ts", "a day's count depends on the range"],
  },
  {
    rule: "percentiles of the events that have the value",
    change: "of all",
    edits: {
      "51_sources.sql": [[" filter (where e.value is not null))::text", ")::text"]],
    },
    killedBy: ["reads/metrics.test.ts", "what has none is apart"],
  },
  {
    rule: "medians come from raw events alone",
    change: "sources chosen as for totals",
    edits: {
      "50_read_plan.sql": [
        [
          "coalesce(p_why_raw, rollup.why_raw(v_settings, p_read))",
          "rollup.why_raw(v_settings, p_read)",
        ],
      ],
    },
    killedBy: ["reads/metrics.test.ts", "what has none is apart"],
  },
  {
    rule: "purged days are not unsealed",
    change: "they may be",
    edits: {
      "49_seal.sql": [
        ["where c.account_id = p_account_id and c.purged is not null) then", "where false) then"],
      ],
    },
    killedBy: ["engine/purge.test.ts", "a year purged"],
  },
  {
    rule: "only sealed days are purged",
    change: "whatever is asked",
    edits: {
      "49_seal.sql": [["if v_through is null or p_before > v_through + 1 then", "if false then"]],
    },
    killedBy: ["engine/purge.test.ts", "only sealed days are purged"],
  },
  {
    rule: "no read misses purged raw events",
    change: "they are left out",
    edits: {
      "50_read_plan.sql": [["  if v_needed <> '{}' then", "  if false then"]],
    },
    killedBy: ["engine/purge.test.ts", "reads that need purged raw events"],
  },
  {
    rule: "no read misses purged raw events",
    change: "a day cut off at its end does",
    edits: {
      "50_read_plan.sql": [
        [
          "when p_read.shortened_day is null then '{}' else datemultirange(daterange(p_read.shortened_day, p_read.shortened_day, '[]'))",
          "when true then '{}'::datemultirange",
        ],
      ],
    },
    killedBy: ["engine/purge.test.ts", "reads that need purged raw events"],
  },
  {
    rule: "sealed days are one piece for distinct counts",
    change: "periods with gaps are read raw",
    edits: {
      "50_read_plan.sql": [
        [
          "(rollup.split_periods(v_days, p_read.group_by) - rollup.sealed_days(p_read.account_id))",
          "rollup.split_periods(v_days, p_read.group_by)",
        ],
      ],
    },
    killedBy: ["engine/purge.test.ts", "a year purged"],
  },
  {
    rule: "a day that begins where clocks change is whole",
    change: "it is read raw",
    edits: {
      "13_calendar.sql": [["v_first := greatest(v_first, (", "v_first := greatest(v_first + 1, ("]],
    },
    killedBy: ["engine/purge.test.ts", "a year purged"],
  },
  {
    rule: "a day that ends where clocks change is whole",
    change: "it is read raw",
    edits: {
      "13_calendar.sql": [["v_end := least(v_end, (", "v_end := least(v_end - 1, ("]],
    },
    killedBy: ["engine/purge.test.ts", "a year purged"],
  },
  {
    rule: "retention keeps whole calendar months",
    change: "counts months back from today",
    edits: {
      "49_seal.sql": [
        [
          "date_trunc('month', rollup.local_date(p_now at time zone 'UTC', s.reporting_timezone)::timestamp)",
          "rollup.local_date(p_now at time zone 'UTC', s.reporting_timezone)::timestamp",
        ],
      ],
    },
    killedBy: ["engine/purge.test.ts", "retention seals and purges"],
  },
  {
    rule: "retention is off by default",
    change: "without one a month is kept",
    edits: {
      "49_seal.sql": [
        ["months => s.retention_months)", "months => coalesce(s.retention_months, 1))"],
        ["  where s.retention_months is not null\n    and d.before", "  where d.before"],
      ],
    },
    killedBy: ["engine/purge.test.ts", "retention seals and purges"],
  },
  {
    rule: "following the host's setting costs other changes nothing",
    change: "the function is called for every change of the settings",
    schema: `create or replace trigger reporting_events_rollup_timezone_update after update of settings on public.accounts
      for each row execute function rollup.track_host_setting()`,
    killedBy: ["engine/host_settings.test.ts", "no other change calls the function"],
  },
  {
    rule: "following the host's setting waits for nobody",
    change: "it waits for the account's settings",
    edits: {
      "48_host_settings.sql": [
        [
          "perform from rollup.account_settings as s where s.account_id = v_account_id for no key update skip locked;",
          "perform from rollup.account_settings as s where s.account_id = v_account_id for no key update;",
        ],
      ],
    },
    killedBy: ["engine/host_settings.test.ts", "nobody waits, and it is followed later"],
  },
  {
    rule: "following the host's setting waits for nobody",
    change: "the comparison waits for settings that somebody has locked",
    edits: {
      "48_host_settings.sql": [
        [
          "where s.account_id = any (v_accounts) for no key update skip locked",
          "where s.account_id = any (v_accounts) for no key update",
        ],
      ],
    },
    killedBy: ["engine/host_settings.test.ts", "nobody waits, and it is followed later"],
  },
  {
    rule: "the host's setting is followed at once in read committed only",
    change: "at every isolation level",
    edits: {
      "48_host_settings.sql": [
        ["      or current_setting('transaction_isolation') <> 'read committed'\n", ""],
      ],
    },
    killedBy: ["engine/host_settings.test.ts", "repeatable read: the host commits"],
  },
  {
    rule: "few of a transaction's guards are for its settings",
    change: "as many as it has accounts",
    edits: {
      "48_host_settings.sql": [
        ["      or rollup.remaining_guards() <= rollup.guarded_firings() / 2\n", ""],
      ],
    },
    killedBy: ["engine/host_settings.test.ts", "500 accounts in one transaction"],
  },
  {
    rule: "what has failed once in a transaction is not tried again",
    change: "each setting is",
    edits: {
      "48_host_settings.sql": [["      or current_setting('rollup.unfollowed', true) = 'x'\n", ""]],
    },
    killedBy: ["engine/host_settings.test.ts", "what fails once is not tried again"],
  },
  {
    rule: "the host's setting is followed on the host's table alone",
    change: "on any",
    edits: {
      "48_host_settings.sql": [
        ["if tg_relid is distinct from rollup.host_accounts()\n      or", "if"],
      ],
    },
    killedBy: ["engine/host_settings.test.ts", "on another table the function does nothing"],
  },
  {
    rule: "neither notify nor enqueue in the host's transaction",
    change: "the change of a zone queues its backfill",
    edits: {
      "48_host_settings.sql": [
        [
          "insert into rollup.dirty_marks (account_id, date, marked_at, reason) values (v_account_id, null, now(), 'its time zone was set');",
          "perform rollup.enqueue_backfill(v_account_id);",
        ],
      ],
    },
    killedBy: ["engine/host_settings.test.ts", "lastval() is the host's"],
  },
  {
    rule: "a deleted account is forgotten when nobody writes under its last zone",
    change: "as soon as its rows are cleared",
    edits: {
      "48_host_settings.sql": [[" and rollup.still_awaited(c.awaited) = '{}')", ")"]],
    },
    killedBy: ["engine/host_settings.test.ts", "a deleted account"],
  },
  {
    rule: "where the host is a deadlock's other part it is we who give up",
    change: "the setter waits for its row",
    edits: {
      "44_reporting_timezone.sql": [
        [
          "perform rollup.limit_lock_waits();\n  loop",
          "perform set_config('lock_timeout', '0', true);\n  loop",
        ],
      ],
    },
    killedBy: ["engine/host_settings.test.ts", "a deadlock of the host and the setter"],
  },
  {
    rule: "the nightly verification has small hours",
    change: "the whole morning",
    edits: { "66_nightly_verification.sql": [["< '05:00'", "< '12:00'"]] },
    killedBy: ["engine/nightly_verification.test.ts", "only between one and five"],
  },
  {
    rule: "the nightly verification looks at one account at a time",
    change: "each worker at one",
    edits: {
      "66_nightly_verification.sql": [["if not rollup.try_lock_account(0) then", "if false then"]],
    },
    killedBy: ["engine/nightly_verification.test.ts", "one account at a time"],
  },
  {
    rule: "every day is verified within a month",
    change: "the pieces are a day short",
    edits: {
      "66_nightly_verification.sql": [
        [
          "  v_last date := least(p_verified_from, p_today - v_recent) - 1;",
          "  v_last date := least(p_verified_from, p_today - v_recent) - 2;",
        ],
      ],
    },
    killedBy: ["engine/nightly_verification.test.ts", "every day is seen"],
  },
  {
    rule: "the nightly verification goes on after an account that fails",
    change: "the failure is the end",
    edits: {
      "66_nightly_verification.sql": [
        [
          "  exception when others then\n    -- The others' turn",
          "  exception when query_canceled then\n    -- The others' turn",
        ],
      ],
    },
    killedBy: ["engine/nightly_verification.test.ts", "cannot be verified"],
  },
  {
    rule: "the nightly verification goes on after an account that fails",
    change: "the account begins anew with its older days",
    edits: {
      "66_nightly_verification.sql": [
        [
          "verified_from := (select c.verified_from from rollup.account_coverage as c where c.account_id = verify_next.account_id);",
          "verified_from := null;",
        ],
      ],
    },
    killedBy: ["engine/nightly_verification.test.ts", "cannot be verified"],
  },
  {
    rule: "the nightly verification looks at accounts with clean days",
    change: "also at others",
    edits: {
      "66_nightly_verification.sql": [
        [
          "and not exists (select from rollup.dirty_marks as m where m.account_id = s.account_id and m.date is null)",
          "",
        ],
      ],
    },
    killedBy: ["engine/nightly_verification.test.ts", "all days are dirty"],
  },
  {
    rule: "no function of a stranger's is run as the owner",
    change: "a view in the place of the accounts is read",
    edits: {
      "44_reporting_timezone.sql": [
        ["c.relkind in ('r', 'p') and not row_security_active", "not row_security_active"],
      ],
    },
    killedBy: ["engine/host_settings.test.ts", "accounts that are a view"],
  },
];
