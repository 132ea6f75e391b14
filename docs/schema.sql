-- The schema rollup of a migrated database, to read: tables, views, functions and what they are for.
-- Written by npm run schema; what makes it is migrations/ and, for the definitions of functions and views, sql/.

create schema rollup;
comment on schema rollup is 'Made by reporting-rollup; removed by reporting-rollup uninstall.';

create type rollup.distinct_event as enum ('conversation_bot_handoff', 'conversation_resolved');
comment on type rollup.distinct_event is 'The events whose conversations are remembered, so that they can be counted distinctly over any range.';

create type rollup.read as (
  account_id integer,
  since timestamp with time zone,
  until timestamp with time zone,
  group_by text,
  timezone text,
  dimension_type text,
  first_dimension_id bigint,
  last_dimension_id bigint,
  business_hours boolean,
  rollup_days datemultirange,
  raw_days datemultirange,
  shortened_day date
);
comment on type rollup.read is 'What a read asks for, and where its numbers come from.';

create table rollup.account_coverage (
  account_id integer not null,
  generation bigint not null,
  covered datemultirange not null default '{}'::datemultirange,
  sealed_through date,
  last_verified_at timestamp with time zone,
  last_verification_differences bigint,
  host_relation oid,
  zone_rules text,
  awaited text[],
  purged daterange,
  purge_next date,
  purged_events bigint not null default 0,
  verified_from date,
  last_verification_days integer,
  PRIMARY KEY (account_id)
);
comment on table rollup.account_coverage is 'Which days the rollups of an account hold completely. Changed under the account''s lock, but for two writers: a first zone adds the row, and migrate and the worker empty covered where triggers were missing.';
comment on column rollup.account_coverage.generation is 'The generation that the account''s rollups, ledger and previous dates belong to; where it is not the one of account_settings, they are of an old zone and count for nothing.';
comment on column rollup.account_coverage.covered is 'The days whose rollups are complete.';
comment on column rollup.account_coverage.sealed_through is 'The last of the sealed days, which are all up to it and of the account''s present zone, whatever the generation says.';
comment on column rollup.account_coverage.host_relation is 'The table whose events the account''s rollups hold; where public.reporting_events is another one they count for nothing.';
comment on column rollup.account_coverage.zone_rules is 'Fingerprint of the clocks by which the account''s days were reckoned; where its zone has others now, its rollups begin anew.';
comment on column rollup.account_coverage.awaited is 'Transactions that may still write under an older zone: days are claimed when they have ended. NULL: nobody has looked yet.';
comment on column rollup.account_coverage.purged is 'The sealed days whose raw events were deleted, or are being; NULL: none. Set before the first is deleted.';
comment on column rollup.account_coverage.purge_next is 'The day from which on the worker goes on deleting; NULL: no purge is under way.';
comment on column rollup.account_coverage.purged_events is 'Raw events deleted so far.';
comment on column rollup.account_coverage.verified_from is 'How far back the nightly verification has come, a piece each night; NULL: it begins anew.';
comment on column rollup.account_coverage.last_verification_days is 'How many days of those that differed are rebuilt.';

create table rollup.account_settings (
  account_id integer not null,
  reporting_timezone text,
  reporting_events_rollup boolean not null default false,
  write_mode text not null default 'inline'::text,
  generation bigint not null default 0,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  host_timezone text,
  retention_months integer,
  PRIMARY KEY (account_id),
  CHECK ((retention_months > 0)),
  CHECK ((write_mode = ANY (ARRAY['inline'::text, 'append'::text])))
);
comment on table rollup.account_settings is 'What people decide for an account; changed by the set_… functions only.';
comment on column rollup.account_settings.reporting_timezone is 'IANA name; decides the day of an event. NULL: the account keeps no rollups.';
comment on column rollup.account_settings.reporting_events_rollup is 'Whether reads may use rollups; writes happen regardless.';
comment on column rollup.account_settings.write_mode is 'inline: the trigger updates the rollups itself whenever it can have the account''s lock; append: it leaves deltas to fold().';
comment on column rollup.account_settings.generation is 'Grows with every change of the zone.';
comment on column rollup.account_settings.host_timezone is 'The name in the host''s setting of the account that was followed last, empty for none; NULL: the host keeps no setting of this account.';
comment on column rollup.account_settings.retention_months is 'For how many whole months raw events are kept, after which the worker seals and purges them; NULL: for ever.';

create table rollup.backfill_chunks (
  account_id integer not null,
  run_id bigint not null,
  chunk integer not null,
  from_date date not null,
  to_date date not null,
  events bigint not null,
  state text not null default 'pending'::text,
  attempts integer not null default 0,
  error text,
  finished_at timestamp with time zone,
  PRIMARY KEY (account_id, run_id, chunk),
  CHECK ((state = ANY (ARRAY['pending'::text, 'done'::text, 'failed'::text, 'cancelled'::text])))
);
comment on table rollup.backfill_chunks is 'The pieces of a run, rebuilt one at a time, each in a transaction of its own.';

create table rollup.backfill_runs (
  id bigint not null generated always as identity,
  account_id integer not null,
  generation bigint not null,
  from_date date not null,
  to_date date not null,
  chunks_total integer not null default 0,
  chunks_done integer not null default 0,
  chunks_failed integer not null default 0,
  events bigint not null default 0,
  rows_written bigint not null default 0,
  state text not null default 'pending'::text,
  requested_at timestamp with time zone not null default now(),
  started_at timestamp with time zone,
  finished_at timestamp with time zone,
  error text,
  job_id bigint,
  attempts integer not null default 0,
  PRIMARY KEY (id),
  CHECK ((state = ANY (ARRAY['pending'::text, 'running'::text, 'done'::text, 'failed'::text, 'cancelled'::text])))
);
comment on table rollup.backfill_runs is 'Requested rebuilds and how far they are.';
comment on column rollup.backfill_runs.generation is 'Of the zone that the account had when this was requested last.';
comment on column rollup.backfill_runs.from_date is 'First day, inclusive; -infinity: from the first event on.';
comment on column rollup.backfill_runs.to_date is 'Last day, inclusive; infinity: through the last event, and coming days too.';
comment on column rollup.backfill_runs.events is 'Raw events aggregated so far.';
comment on column rollup.backfill_runs.job_id is 'The job of the worker that goes through it; one that finds another here ends.';
comment on column rollup.backfill_runs.attempts is 'How often it could not begin.';
CREATE INDEX backfill_runs_account_id ON rollup.backfill_runs USING btree (account_id) WHERE (state = ANY (ARRAY['pending'::text, 'running'::text]));

create table rollup.deltas (
  account_id integer not null,
  generation bigint not null,
  date date not null,
  event_name text not null,
  user_id bigint,
  inbox_id bigint,
  conversation_id bigint,
  count bigint not null,
  sum_value numeric not null,
  sum_value_business_hours numeric not null,
  from_delete boolean not null,
  count_value bigint not null default 0,
  count_value_business_hours bigint not null default 0
) with (vacuum_truncate=off, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_insert_scale_factor=0.05);
comment on table rollup.deltas is 'Signed changes not yet applied to the rollups; its row type is the one shape in which changes travel. No key and no identity column: writers never wait for one another here, and lastval() stays the host''s.';
CREATE INDEX deltas_account_id_date_event_name ON rollup.deltas USING btree (account_id, date, event_name);

create table rollup.dirty_marks (
  account_id integer not null,
  date date,
  marked_at timestamp with time zone not null,
  reason text
);
comment on table rollup.dirty_marks is 'Days (NULL: all days of the account) that the trigger could not keep; they are read from raw events until rebuilt.';

create table rollup.host_table (
  one boolean not null default true,
  state jsonb not null,
  PRIMARY KEY (one),
  CHECK (one)
);
comment on table rollup.host_table is 'One row: rollup.host_table_state() when the worker last looked.';

create table rollup.ledger (
  account_id integer not null,
  event_name rollup.distinct_event not null,
  conversation_id bigint not null,
  date date not null,
  count integer not null,
  user_id bigint,
  inbox_id bigint,
  UNIQUE NULLS NOT DISTINCT (account_id, event_name, conversation_id, date, user_id, inbox_id)
);
comment on table rollup.ledger is 'How many events of a name a conversation had on a day, per agent and inbox. It counts in a dimension on a day while its sum there is above 0.';
CREATE INDEX ledger_account_id_date ON rollup.ledger USING btree (account_id, date);

create table rollup.previous_dates (
  account_id integer not null,
  event_name rollup.distinct_event not null,
  dimension_type text collate "C" not null,
  dimension_id bigint not null,
  date date not null,
  previous_date date not null,
  count bigint not null,
  PRIMARY KEY (account_id, event_name, dimension_type, dimension_id, date, previous_date)
) with (fillfactor=80);
comment on table rollup.previous_dates is 'How many conversations of a day had the same event last on a previous date. Distinct conversations of [a, b]: the sum over dates in [a, b] of those whose previous date lies before a.';
comment on column rollup.previous_dates.previous_date is '-infinity: the conversation had none before.';

create table rollup.reporting_events_rollups (
  account_id integer not null,
  date date not null,
  dimension_type text collate "C" not null,
  dimension_id bigint not null,
  metric text collate "C" not null,
  count bigint not null,
  sum_value numeric not null default 0,
  sum_value_business_hours numeric not null default 0,
  updated_at timestamp with time zone not null default now(),
  count_value bigint not null default 0,
  count_value_business_hours bigint not null default 0,
  PRIMARY KEY (account_id, dimension_type, metric, date, dimension_id)
) with (fillfactor=80);
comment on table rollup.reporting_events_rollups is 'Daily totals as far as they have been applied; read rollup.daily_rollups, which adds the pending deltas.';
comment on column rollup.reporting_events_rollups.date is 'The day in the account''s reporting_timezone.';
comment on column rollup.reporting_events_rollups.sum_value is 'Seconds, exact to the microsecond.';
comment on column rollup.reporting_events_rollups.sum_value_business_hours is 'Seconds, exact to the microsecond.';
comment on column rollup.reporting_events_rollups.count_value is 'Events that have a value; averages divide by it.';
comment on column rollup.reporting_events_rollups.count_value_business_hours is 'Events that have a value in business hours; averages divide by it.';

create view rollup.account_status (
  account_id integer,
  reporting_timezone text,
  reporting_events_rollup boolean,
  covered datemultirange,
  covered_share numeric,
  dirty_days bigint,
  pending_deltas bigint,
  running_backfill_id bigint,
  sealed_through date,
  last_verified_at timestamp with time zone,
  last_verification_differences bigint,
  awaited_by text[],
  problem text,
  host_timezone text,
  purged daterange,
  purged_events bigint,
  purging boolean,
  retention_months integer,
  last_verification_days integer,
  verified_from date
) as …;
comment on view rollup.account_status is 'Settings, coverage and pending work of each account. covered_share: clean days as a share of those from its first to its last event; dirty_days: days that the trigger could not keep (an account-wide mark makes covered_share 0); running_backfill_id: of backfill_runs; awaited_by: whose end a rebuild awaits before it claims days, for they may still write under an older zone; problem: what keeps all of its days from being read from rollups and does not go by itself, and what sealed days miss; host_timezone: the name in public.accounts.settings, where the host keeps one; purged: the days whose raw events were or, while purging, are being deleted, and how many that have been; retention_months: see set_retention; last_verified_at, last_verification_differences, last_verification_days: when a verification ended, what differed, and how many days were marked for rebuilding; verified_from: how far back the nightly ones have come.';

create view rollup.daily_metrics (
  account_id integer,
  date date,
  dimension_type text,
  dimension_id bigint,
  metric text,
  count bigint,
  average numeric,
  average_business_hours numeric,
  sum_value numeric,
  count_value bigint,
  sum_value_business_hours numeric,
  count_value_business_hours bigint
) as …;
comment on view rollup.daily_metrics is 'A row per account, day, dimension and metric, with averages in seconds; NULL: not a duration, or no event has a value. Over several days, count adds up but for bot_handoffs_count, and an average is sum(sum_value) / sum(count_value). Exact on clean days.';

create view rollup.daily_rollups (
  account_id integer,
  date date,
  dimension_type text,
  dimension_id bigint,
  metric text,
  count bigint,
  sum_value numeric,
  sum_value_business_hours numeric,
  updated_at timestamp with time zone,
  count_value bigint,
  count_value_business_hours bigint
) as …;
comment on view rollup.daily_rollups is 'Daily totals per account, dimension and metric, pending deltas included: exact on clean days (account_status.covered without dirty days); on other days, what the trigger has seen so far. Sums are seconds; count_value and count_value_business_hours are the events that have a value: averages divide by them. updated_at is NULL where all is pending.';

create view rollup.daily_summary (
  account_id integer,
  date date,
  dimension_type text,
  dimension_id bigint,
  resolutions_count bigint,
  bot_resolutions_count bigint,
  bot_handoffs_count bigint,
  avg_resolution_time numeric,
  avg_first_response_time numeric,
  avg_reply_time numeric,
  avg_resolution_time_business_hours numeric,
  avg_first_response_time_business_hours numeric,
  avg_reply_time_business_hours numeric
) as …;
comment on view rollup.daily_summary is 'A row per account, day and agent, inbox or account that has any of these events; averages in seconds, NULL where no event has the value. Averages and hand-offs do not add up over days: see daily_metrics and rollup.aggregate. Exact on clean days.';

create view rollup.event_metrics (
  event_name text,
  metric text,
  payload text
) as …;
comment on view rollup.event_metrics is 'Which rollup metrics an event counts towards. count: number of events. duration: also the sums of its values, seconds, and how many have one. distinct: number of distinct conversations per dimension and day.';

create view rollup.report_metrics (
  report_metric text,
  aggregate text,
  event_name text,
  metric text,
  summary_key text
) as …;
comment on view rollup.report_metrics is 'What a reader can ask for. metric: whose rollups it comes from; NULL: it is reckoned from raw events. aggregate: count, average, median or p90 (seconds), rate (percent); net count: without conversations that were handed off; distinct count: of conversations. Those with event_name NULL come from other tables of the host and are refused by our reads. docs/reads.md says what they mean.';

-- sql/09_define_view.sql

create function rollup.define_view(p_name text, p_query text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.define_view(p_name text, p_query text) is 'Creates rollup.<p_name>, or replaces it if its definition differs from p_query. Used by the files in sql/ only.';

-- sql/10_errors.sql

create function rollup.error_codes()
returns TABLE(sqlstate text, condition text, raised_by text)
language sql immutable parallel safe;
comment on function rollup.error_codes() is 'The SQLSTATEs raised by the functions of this schema. Example: select * from rollup.error_codes();';

create function rollup.require(p_function text, p_arguments jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require(p_function text, p_arguments jsonb) is 'Raises RU009 naming the function and those of its arguments that are NULL.';

create function rollup.require_read_committed(p_function text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_read_committed(p_function text) is 'Raises RU004 in a repeatable read or serializable transaction.';

create function rollup.require_days(p_function text, p_account_id integer, p_from date, p_to date)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_days(p_function text, p_account_id integer, p_from date, p_to date) is 'Raises RU009 without an account, RU003 for an infinite date or if the first comes after the second. NULL: open.';

create function rollup.require_choice(p_function text, p_argument text, p_value text, p_choices text[])
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_choice(p_function text, p_argument text, p_value text, p_choices text[]) is 'Raises RU008 for a value that is none of the choices, RU009 for NULL.';

-- sql/11_registry.sql

create function rollup.event_metric_list()
returns TABLE(event_name text, metric text, payload text)
language sql immutable parallel safe;
comment on function rollup.event_metric_list() is 'event_metrics as a function: triggers read tables and functions, never views.';

create function rollup.event_names()
returns text[]
language sql immutable parallel safe;
comment on function rollup.event_names() is 'The names of the events that count towards a metric.';

create function rollup.distinct_event_names()
returns text[]
language sql immutable parallel safe;
comment on function rollup.distinct_event_names() is 'The names of the events whose conversations are remembered, in the ledger and the previous dates: those with a distinct count.';

create function rollup.remembered_conversation(p_event_name text, p_conversation_id bigint)
returns bigint
language sql immutable parallel safe;
comment on function rollup.remembered_conversation(p_event_name text, p_conversation_id bigint) is 'The conversation of an event, or NULL if conversations are not remembered for it.';

create function rollup.report_metric_list()
returns TABLE(report_metric text, aggregate text, event_name text, metric text, summary_key text)
language sql immutable parallel safe;
comment on function rollup.report_metric_list() is 'report_metrics as a function.';

-- sql/12_dimensions.sql

create function rollup.dimension_types()
returns text[]
language sql immutable parallel safe;
comment on function rollup.dimension_types() is 'The types of dimensions.';

create function rollup.dimension_id(p_dimension_type text, p_account_id integer, p_user_id bigint, p_inbox_id bigint)
returns bigint
language sql immutable parallel safe;
comment on function rollup.dimension_id(p_dimension_type text, p_account_id integer, p_user_id bigint, p_inbox_id bigint) is 'What an event counts for in a dimension: the id of its account, agent or inbox; NULL: nothing.';

create function rollup.dimensions(p_account_id integer, p_user_id bigint, p_inbox_id bigint)
returns TABLE(dimension_type text, dimension_id bigint)
language sql immutable parallel safe;
comment on function rollup.dimensions(p_account_id integer, p_user_id bigint, p_inbox_id bigint) is 'The dimensions that an event counts in; a missing agent or inbox is none.';

-- sql/13_calendar.sql

create function rollup.local_date(p_created_at timestamp without time zone, p_timezone text)
returns date
language sql immutable parallel safe;
comment on function rollup.local_date(p_created_at timestamp without time zone, p_timezone text) is 'The day of an event. p_created_at: UTC; p_timezone: IANA name. The one definition of a day: always bucket with it, never compare with midnights, for clocks go back over midnight in some zones. Example: rollup.local_date(''2026-02-12 04:00'', ''America/New_York'') is 2026-02-11.';

create function rollup.days(p_from date, p_to date)
returns daterange
language sql immutable parallel safe;
comment on function rollup.days(p_from date, p_to date) is 'The days p_from to p_to, inclusive; an infinite bound is an open one.';

create function rollup.utc_midnight(p_date date, p_days integer DEFAULT 0)
returns timestamp without time zone
language sql immutable parallel safe;
comment on function rollup.utc_midnight(p_date date, p_days integer) is 'Midnight UTC of a date p_days later, as a bound for created_at; infinite where there is no such timestamp. A local day lies within a day of the UTC day of the same date.';

create function rollup.utc_offset(p_at timestamp without time zone, p_timezone text)
returns interval
language sql immutable parallel safe;
comment on function rollup.utc_offset(p_at timestamp without time zone, p_timezone text) is 'Local time minus UTC at p_at (UTC).';

create function rollup.clocks_are_steady(p_at timestamp without time zone, p_timezone text)
returns boolean
language sql immutable parallel safe;
comment on function rollup.clocks_are_steady(p_at timestamp without time zone, p_timezone text) is 'Whether no clock change is near p_at (UTC).';

create function rollup.day_begins(p_date date, p_timezone text)
returns timestamp with time zone
language sql immutable parallel safe;
comment on function rollup.day_begins(p_date date, p_timezone text) is 'The first instant of a local day.';

create function rollup.scan_bound(p_date date, p_timezone text, p_slack interval)
returns timestamp without time zone
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.scan_bound(p_date date, p_timezone text, p_slack interval) is 'The beginning of a local day in UTC, as a bound for created_at; p_slack later where a clock change is near, for there the day decides.';

create function rollup.whole_days(p_since timestamp with time zone, p_until timestamp with time zone, p_timezone text)
returns daterange
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.whole_days(p_since timestamp with time zone, p_until timestamp with time zone, p_timezone text) is 'The local days of which every instant lies in [p_since, p_until).';

create function rollup.touched_days(p_since timestamp with time zone, p_until timestamp with time zone, p_timezone text)
returns daterange
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.touched_days(p_since timestamp with time zone, p_until timestamp with time zone, p_timezone text) is 'The local days of which some instant lies in [p_since, p_until), from the first to the last.';

create function rollup.period_types()
returns text[]
language sql immutable parallel safe;
comment on function rollup.period_types() is 'What a report can be grouped by. Within, "range" is one period of all dates.';

create function rollup.period(p_date date, p_group_by text)
returns date
language sql immutable parallel safe;
comment on function rollup.period(p_date date, p_group_by text) is 'The first day of the day, week (from Sunday), month, quarter or year of a date; "range": all dates are one period.';

create function rollup.period_length(p_group_by text)
returns interval
language sql immutable parallel safe;
comment on function rollup.period_length(p_group_by text) is 'From the beginning of an hour, day, week, month, quarter or year to that of the next.';

create function rollup.period_days(p_date date, p_group_by text)
returns daterange
language sql immutable parallel safe;
comment on function rollup.period_days(p_date date, p_group_by text) is 'The days of the period of a date.';

create function rollup.event_period(p_created_at timestamp without time zone, p_group_by text, p_timezone text)
returns timestamp without time zone
language sql immutable parallel safe;
comment on function rollup.event_period(p_created_at timestamp without time zone, p_group_by text, p_timezone text) is 'The beginning of the period of an event: of an hour in UTC, for clocks may repeat it, of others in local time.';

create function rollup.period_start(p_period timestamp without time zone, p_group_by text, p_timezone text)
returns timestamp with time zone
language sql immutable parallel safe;
comment on function rollup.period_start(p_period timestamp without time zone, p_group_by text, p_timezone text) is 'The instant at which a period, as event_period names it, begins.';

create function rollup.periods(p_since timestamp with time zone, p_until timestamp with time zone, p_group_by text, p_timezone text)
returns SETOF timestamp without time zone
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.periods(p_since timestamp with time zone, p_until timestamp with time zone, p_group_by text, p_timezone text) is 'All periods that [p_since, p_until) touches, named as event_period does.';

-- sql/14_timezones.sql

create function rollup.is_place(p_name text)
returns boolean
language sql immutable parallel safe;
comment on function rollup.is_place(p_name text) is 'Whether a file of the server''s time zone data is the zone of a place, rather than a variant or none.';

create function rollup.timezones()
returns TABLE(name text, utc_offset interval, is_dst boolean)
language sql stable;
comment on function rollup.timezones() is 'The zones an account can have, with the offset they have now. Slow (a tenth of a second): for people, not for events.';

create function rollup.has_timezone(p_name text)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.has_timezone(p_name text) is 'Whether the server can reckon with a time zone: those of its files, and whatever else PostgreSQL takes for one. Fast.';

create function rollup.listed_timezone(p_name text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set TimeZone = UTC;
comment on function rollup.listed_timezone(p_name text) is 'The listed spelling of an IANA zone given in any case; NULL for what is none. Fast, but for the first account with a zone like Etc/GMT+5.';

create function rollup.rails_timezones()
returns TABLE(name text, iana text)
language sql immutable parallel safe;
comment on function rollup.rails_timezones() is 'Names of time zones in Ruby on Rails (ActiveSupport::TimeZone) with their IANA names: hosts built on Rails store them.';

create function rollup.known_timezone(p_name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.known_timezone(p_name text) is 'The IANA zone, as listed, that is meant by its own name or by its name in Rails, in any case; NULL: none is.';

create function rollup.find_timezone(p_name text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.find_timezone(p_name text) is 'The IANA zone, as listed, that is meant by its own name or by its name in Rails, in any case. Raises RU001 with the nearest names.';

create function rollup.same_timezone(p_one text, p_other text, p_since timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone, p_until timestamp with time zone DEFAULT '2100-01-01 00:00:00+00'::timestamp with time zone)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.same_timezone(p_one text, p_other text, p_since timestamp with time zone, p_until timestamp with time zone) is 'Whether clocks show the same in two zones in [p_since, p_until), as in a zone and its alias; false for ranges of more than 200 years. Milliseconds for a year. Example: rollup.same_timezone(''Asia/Calcutta'', ''Asia/Kolkata'').';

create function rollup.similar_timezones(p_name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.similar_timezones(p_name text) is 'The three zones most like a misspelt name, by shared pairs of letters with the whole name or its last part.';

create function rollup.zone_rules(p_timezone text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.zone_rules(p_timezone text) is 'A fingerprint of the clocks of a zone from 1970 to 2040; NULL for NULL and for a zone that the server does not know. Takes some 20 ms.';

-- sql/15_host_events.sql

create function rollup.host_table()
returns oid
language sql stable parallel safe;
comment on function rollup.host_table() is 'The table that the host writes its events to; NULL if there is none.';

create function rollup.is_distributed()
returns boolean
language sql stable parallel safe;
comment on function rollup.is_distributed() is 'Whether the host''s table is distributed over the nodes of a Citus cluster.';

create function rollup.is_coordinator()
returns boolean
language sql stable parallel safe;
comment on function rollup.is_coordinator() is 'Whether settings of accounts are changed on this server: everywhere, but on the workers of a Citus cluster.';

create function rollup.host_relations()
returns TABLE(relation oid)
language sql stable parallel safe;
comment on function rollup.host_relations() is 'The tables of this server that hold events of the host: its table, or those of its shards that are here.';

create function rollup.host_relation(p_account_id integer)
returns oid
language sql stable parallel safe;
comment on function rollup.host_relation(p_account_id integer) is 'That of host_relations which holds the events of an account; NULL if they are on another server.';

create function rollup.is_host_relation(p_relation oid)
returns boolean
language sql stable parallel safe;
comment on function rollup.is_host_relation(p_relation oid) is 'Whether a table is one of host_relations.';

create function rollup.coverage_of(p_relation oid)
returns oid
language sql stable parallel safe;
comment on function rollup.coverage_of(p_relation oid) is 'What account_coverage.host_relation must be for days that were claimed on a table: itself. Of a shard, the file of its rows, which is another after a truncate, for that fires no trigger on shards.';

create function rollup.accounts_here()
returns TABLE(account_id integer, host_relation oid)
language sql stable parallel safe;
comment on function rollup.accounts_here() is 'The accounts whose events are on this server, with their host_relation.';

create function rollup.account_node(p_account_id integer)
returns text
language sql stable parallel safe;
comment on function rollup.account_node(p_account_id integer) is 'The node of a Citus cluster that has the events of an account, as host:port; NULL without Citus.';

create function rollup.host_events(p_account_id integer, p_event_names text[], p_from timestamp without time zone, p_to timestamp without time zone)
returns TABLE(created_at timestamp without time zone, name text, user_id bigint, inbox_id bigint, conversation_id bigint, value double precision, value_in_business_hours double precision)
language sql stable parallel safe;
comment on function rollup.host_events(p_account_id integer, p_event_names text[], p_from timestamp without time zone, p_to timestamp without time zone) is 'The raw events of an account with these names, created_at (UTC) from p_from through p_to, both inclusive.';

-- sql/20_settings.sql

create function rollup.writer_settings(p_account_id bigint)
returns TABLE(account_id integer, generation bigint, timezone text, inline boolean)
language sql stable parallel safe;
comment on function rollup.writer_settings(p_account_id bigint) is 'What the trigger needs to know of an account; no row for one without a zone.';

create function rollup.require_timezone(p_account_id integer)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_timezone(p_account_id integer) is 'Raises RU002 for an account without a reporting time zone.';

create function rollup.lock_settings(p_account_id integer)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.lock_settings(p_account_id integer) is 'The settings row of an account, created if missing, locked.';

create function rollup.next_generation(p_generation bigint)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.next_generation(p_generation bigint) is 'The generation after that of an account whose settings row is locked, and notes that this transaction changes it: until it has ended nobody else sees that. Not from a sequence: lastval() is the host''s, in whose transaction this may run.';

create function rollup.set_reporting_events_rollup(p_account_id integer, p_enabled boolean)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.set_reporting_events_rollup(p_account_id integer, p_enabled boolean) is 'Says whether reads of an account may use rollups (off by default); writes happen regardless. Returns the settings. Errors: RU009 for NULL. Example: select rollup.set_reporting_events_rollup(1, true);';

create function rollup.set_write_mode(p_account_id integer, p_mode text)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.set_write_mode(p_account_id integer, p_mode text) is 'inline: the trigger updates the rollups of an account itself when nobody else is at them and the statement has no more than 10,000 events. append: it always leaves deltas, at half the cost, and the rows follow within seconds by fold(); reads are exact either way. Returns the settings. Errors: RU008 another mode, RU009 NULL. Example: select rollup.set_write_mode(1, ''append'');';

-- sql/21_locks.sql

create function rollup.lock_class()
returns integer
language sql immutable parallel safe;
comment on function rollup.lock_class() is 'First half of the advisory locks (lock_class(), account_id) under which an account''s rollups are changed; "roll" in ASCII.';

create function rollup.try_lock_account(p_account_id integer)
returns boolean
language sql volatile;
comment on function rollup.try_lock_account(p_account_id integer) is 'Takes the account''s lock until the end of the transaction, or returns false at once. Call it in a statement of its own: what follows must see what its last holder committed.';

create function rollup.lock_wait()
returns integer
language sql stable;
comment on function rollup.lock_wait() is 'How long a rebuild may wait for any lock, milliseconds: well below deadlock_timeout. If the wait is part of a deadlock it is we who give up, never the host.';

create function rollup.limit_lock_waits()
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.limit_lock_waits() is 'Sets lock_timeout to lock_wait() for the rest of the calling function, which must set lock_timeout itself for it to end there.';

create function rollup.holds_host_lock()
returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.holds_host_lock() is 'Whether this session has an advisory lock that is not ours, or has locked a table that is neither ours nor the system''s, as every use of one does.';

create function rollup.lock_account(p_account_id integer, p_patience interval DEFAULT '00:00:10'::interval)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.lock_account(p_account_id integer, p_patience interval) is 'Waits for the account''s lock, and for the host''s table to be readable, for p_patience, or half a second in a transaction that has locked something of the host; then raises RU006 naming who holds it. While somebody waits for it, writers leave deltas.';

create function rollup.require_here(p_function text, p_account_id integer)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_here(p_function text, p_account_id integer) is 'Raises RU011, naming the node, for an account whose events are on another node of a Citus cluster.';

create function rollup.require_all_rows(p_function text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_all_rows(p_function text) is 'Raises RU011 where a policy would filter the events that the present role sees: of some of them, no number is right.';

-- sql/22_coverage.sql

create function rollup.host_table_obstacles(p_relation oid)
returns SETOF text
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.host_table_obstacles(p_relation oid) is 'Why changes of one of host_relations do not reach us, in plain words; no row if they do.';

create function rollup.host_partitions()
returns jsonb
language sql stable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.host_partitions() is 'The partitions of the host''s table, by oid, with the files that hold their rows.';

create function rollup.knows_partitions()
returns boolean
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.knows_partitions() is 'Whether the host''s table has the partitions that it had when the worker last looked, if any: rows come and go with others.';

create function rollup.current_coverage(p_account_id integer)
returns SETOF rollup.account_coverage
language sql stable parallel safe;
comment on function rollup.current_coverage(p_account_id integer) is 'The coverage of an account if its rollups belong to the present zone, and to the present table of the host and its partitions; else no row, and they count for nothing.';

create function rollup.sealed_through(p_account_id integer)
returns date
language sql stable parallel safe;
comment on function rollup.sealed_through(p_account_id integer) is 'The last of the sealed days of an account, which are all up to it; NULL: none is sealed.';

create function rollup.sealed_days(p_account_id integer)
returns datemultirange
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.sealed_days(p_account_id integer) is 'The sealed days of an account, as a set.';

create function rollup.first_unsealed_day(p_account_id integer, p_from date)
returns date
language sql stable parallel safe;
comment on function rollup.first_unsealed_day(p_account_id integer, p_from date) is 'p_from, or the day after the sealed days if that is later.';

create function rollup.require_unsealed(p_function text, p_account_id integer, p_from date, p_to date)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_unsealed(p_function text, p_account_id integer, p_from date, p_to date) is 'Raises RU012 where a range asks for sealed days. A NULL bound does not: an open beginning means the first day that is not sealed.';

create function rollup.covered_days(p_account_id integer)
returns datemultirange
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.covered_days(p_account_id integer) is 'The days of an account that are covered, dirty or not. Sealed days are, whatever happens to zone, table and coverage.';

create function rollup.clean_days(p_account_id integer)
returns datemultirange
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.clean_days(p_account_id integer) is 'The days of an account whose rollups, with the pending deltas, are complete: covered and without a dirty mark. Sealed days always are: a mark on one does not send reads to raw events that may be gone.';

create function rollup.repairable_marks()
returns SETOF rollup.dirty_marks
language sql stable;
comment on function rollup.repairable_marks() is 'The dirty marks that a rebuild here removes: those on sealed days stay, for account_status to show, until the days are unsealed.';

create function rollup.open_transactions()
returns text[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.open_transactions() is 'The other transactions of this database that are under way, by virtual transaction id.';

create function rollup.still_awaited(p_awaited text[])
returns text[]
language sql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.still_awaited(p_awaited text[]) is 'Those of account_coverage.awaited that have not ended. "prepared" stands for whatever is prepared when the others have ended.';

create function rollup.await_old_writers(p_account_id integer)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.await_old_writers(p_account_id integer) is 'Under the account''s lock: waits for transactions that may write under an older zone, up to a second in a transaction; whether what follows may claim days. Ask before the statement whose snapshot is to be trusted.';

create function rollup.adopt_settings(p_account_id integer)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.adopt_settings(p_account_id integer) is 'Under the account''s lock: clears what belongs to an old zone or another table of the host, sealed days apart, notes whose end must be awaited before days are claimed and by which clocks they are reckoned, and returns the settings.';

create function rollup.forget_account_marks(p_account_id integer)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.forget_account_marks(p_account_id integer) is 'Under the account''s lock: turns the visible account-wide dirty marks into uncovered days, before all of them are rebuilt.';

-- sql/30_deltas.sql

create function rollup.microseconds(p_seconds double precision)
returns bigint
language sql immutable parallel safe;
comment on function rollup.microseconds(p_seconds double precision) is 'The value of an event in whole microseconds, which add up exactly in any order; NULL, as if there were none, for NaN, infinities and what does not fit.';

create function rollup.seconds(p_microseconds numeric)
returns numeric
language sql immutable parallel safe;
comment on function rollup.seconds(p_microseconds numeric) is 'Microseconds as seconds, without trailing zeros; 0 for NULL.';

create function rollup.delta_counts(p_delta rollup.deltas, p_generation bigint, p_sealed_through date)
returns boolean
language sql immutable parallel safe;
comment on function rollup.delta_counts(p_delta rollup.deltas, p_generation bigint, p_sealed_through date) is 'Whether a delta changes its day, asked whenever one is applied, folded or read: on sealed days those of deletes do not, whenever they were made; on others those of an old zone do not. (The zone of sealed days is not changed, so theirs are of any generation.)';

create function rollup.pending_deltas(p_account_id integer)
returns SETOF rollup.deltas
language sql stable parallel safe;
comment on function rollup.pending_deltas(p_account_id integer) is 'The deltas of an account that are not applied yet and count. Functions that read pending deltas read these; views ask delta_counts themselves, for they call only functions that are parsed once and for all.';

create function rollup.event_delta(p_account_id integer, p_generation bigint, p_date date, p_event_name text, p_user_id bigint, p_inbox_id bigint, p_conversation_id bigint, p_value bigint, p_value_in_business_hours bigint, p_sign integer)
returns rollup.deltas
language sql immutable;
comment on function rollup.event_delta(p_account_id integer, p_generation bigint, p_date date, p_event_name text, p_user_id bigint, p_inbox_id bigint, p_conversation_id bigint, p_value bigint, p_value_in_business_hours bigint, p_sign integer) is 'The delta of one event that was inserted (p_sign 1) or deleted (-1); values in microseconds, NULL if there is none.';

-- sql/31_conversations.sql

create function rollup.ledger_entries(p_deltas rollup.deltas[])
returns SETOF rollup.ledger
language sql stable parallel safe;
comment on function rollup.ledger_entries(p_deltas rollup.deltas[]) is 'What deltas change in the ledger: signed entries.';

create function rollup.previous_date_rows(p_account_id integer, p_entries rollup.ledger[])
returns SETOF rollup.previous_dates
language sql immutable parallel safe;
comment on function rollup.previous_date_rows(p_account_id integer, p_entries rollup.ledger[]) is 'The rows of previous_dates that follow from ledger entries, which must be all entries of each conversation: a date that comes or goes changes the previous date of the next.';

create function rollup.conversation_entries(p_account_id integer, p_conversations rollup.ledger[])
returns SETOF rollup.ledger
language sql stable parallel safe;
comment on function rollup.conversation_entries(p_account_id integer, p_conversations rollup.ledger[]) is 'All entries of the ledger of the conversations in p_conversations.';

create function rollup.previous_date_changes(p_account_id integer, p_changes rollup.ledger[])
returns SETOF rollup.previous_dates
language sql stable parallel safe;
comment on function rollup.previous_date_changes(p_account_id integer, p_changes rollup.ledger[]) is 'How previous_dates of an account must change when signed entries are added to its ledger.';

create function rollup.add_to_ledger(p_account_id integer, p_entries rollup.ledger[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.add_to_ledger(p_account_id integer, p_entries rollup.ledger[]) is 'Adds signed entries, of different keys, to the ledger, under the account''s lock. Those that come to nothing go.';

create function rollup.add_to_previous_dates(p_account_id integer, p_rows rollup.previous_dates[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.add_to_previous_dates(p_account_id integer, p_rows rollup.previous_dates[]) is 'Adds signed rows, of different keys, to previous_dates, under the account''s lock. Those that come to nothing go.';

-- sql/32_apply.sql

create function rollup.metric_totals(p_event_name text, p_count bigint, p_sum_value numeric, p_sum_value_business_hours numeric, p_count_value bigint, p_count_value_business_hours bigint, p_conversations bigint DEFAULT 0)
returns TABLE(metric text, count bigint, sum_value numeric, sum_value_business_hours numeric, count_value bigint, count_value_business_hours bigint)
language sql immutable parallel safe;
comment on function rollup.metric_totals(p_event_name text, p_count bigint, p_sum_value numeric, p_sum_value_business_hours numeric, p_count_value bigint, p_count_value_business_hours bigint, p_conversations bigint) is 'Totals of events of one name, and of their distinct conversations, as the registry has them: a row per metric.';

create function rollup.totals(p_account_id integer, p_deltas rollup.deltas[])
returns SETOF rollup.reporting_events_rollups
language sql stable parallel safe;
comment on function rollup.totals(p_account_id integer, p_deltas rollup.deltas[]) is 'Signed deltas of one account as changes of its daily totals, distinct counts apart.';

create function rollup.distinct_totals(p_account_id integer, p_rows rollup.previous_dates[])
returns SETOF rollup.reporting_events_rollups
language sql stable parallel safe;
comment on function rollup.distinct_totals(p_account_id integer, p_rows rollup.previous_dates[]) is 'Signed rows of previous_dates as changes of the daily distinct counts: that of a date is the sum of its rows.';

create function rollup.add_to_rollups(p_account_id integer, p_totals rollup.reporting_events_rollups[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.add_to_rollups(p_account_id integer, p_totals rollup.reporting_events_rollups[]) is 'Adds signed totals, of different keys, to the rollups of an account, under its lock. Those that come to nothing go.';

create function rollup.apply(p_account_id integer, p_deltas rollup.deltas[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan;
comment on function rollup.apply(p_account_id integer, p_deltas rollup.deltas[]) is 'Applies those of the signed deltas that count (delta_counts) to the rollups, the ledger and the previous dates of an account. The caller holds the account''s lock and calls it in a statement of its own.';

-- sql/33_fold.sql

create function rollup.fold_size()
returns integer
language sql immutable parallel safe;
comment on function rollup.fold_size() is 'How many deltas are applied at once: they are held in memory.';

create function rollup.queue_for_account(p_account_id integer)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.queue_for_account(p_account_id integer) is 'Takes the account''s lock and, while others hold it, queues for up to 300 ms, in which writers leave deltas: an account whose writers always have it would never be folded. Only tries in a transaction that has written or locked something, for which others may wait. Call it in a statement of its own.';

create function rollup.fold_account(p_account_id integer)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set jit = off;
comment on function rollup.fold_account(p_account_id integer) is 'Applies up to fold_size() pending deltas of an account and discards those that do not count, of an old zone or of deletes on sealed days; returns how many. 0 if its lock is taken.';

create function rollup.accounts_to_fold()
returns SETOF integer
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.accounts_to_fold() is 'The accounts with pending deltas or with rows to clear: of an old zone, or because their events have moved to another node.';

create function rollup.fold(p_account_id integer DEFAULT NULL::integer)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.fold(p_account_id integer) is 'Applies the pending deltas of an account (NULL: of up to 500 accounts) to its rollups; returns how many. Accounts whose lock is taken are skipped, and one that fails is left as it was, with a warning. The worker does this every few seconds. Errors: RU004 not read committed. Example: select rollup.fold();';

-- sql/34_track_events.sql

create function rollup.guarded_firings()
returns integer
language sql immutable parallel safe;
comment on function rollup.guarded_firings() is 'How often the trigger may lock accounts and write in subtransactions of one transaction: the lock table is the whole server''s, and more than 64 subtransactions slow readers down. From then on it appends without a guard. The last guarded firing appends too: that shows that it can be done, and no lock on rollup.deltas comes in between.';

create function rollup.inline_events()
returns integer
language sql immutable parallel safe;
comment on function rollup.inline_events() is 'How many events of a statement the trigger applies itself. To apply more is for fold(), not for the host to wait for.';

create function rollup.remaining_guards()
returns integer
language sql stable;
comment on function rollup.remaining_guards() is 'How many of its guarded_firings this transaction has left. They are letters of a text, for no cast of that can fail.';

create function rollup.use_guards(p_count integer)
returns text
language sql volatile;
comment on function rollup.use_guards(p_count integer) is 'Notes that this transaction has used p_count of its guarded_firings.';

create function rollup.try_lock_accounts(p_account_ids bigint[], p_limit integer)
returns integer[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.try_lock_accounts(p_account_ids bigint[], p_limit integer) is 'Takes the locks of those of up to p_limit accounts, all in inline mode, that are free; returns them.';

create function rollup.apply_event(p_account_id integer, p_generation bigint, p_relation oid, p_date date, p_event_name text, p_user_id bigint, p_inbox_id bigint, p_conversation_id bigint, p_value bigint, p_value_in_business_hours bigint)
returns boolean
language plpgsql volatile;
comment on function rollup.apply_event(p_account_id integer, p_generation bigint, p_relation oid, p_date date, p_event_name text, p_user_id bigint, p_inbox_id bigint, p_conversation_id bigint, p_value bigint, p_value_in_business_hours bigint) is 'Applies one new event under the account''s lock, at a third of the cost of rollup.apply: nothing to group, and one look at the last dates of its conversation. Returns false, having done nothing, if the rollups are not of this generation and table, or if the whole sequence of dates of the conversation matters. Leaves no empty rows to remove: a count below 0 has deltas pending, and what applies those removes what comes to nothing. Called by track_events only, which sets the search_path.';

create function rollup.apply_or_append(p_deltas rollup.deltas[], p_locked integer[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.apply_or_append(p_deltas rollup.deltas[], p_locked integer[]) is 'Applies the deltas of those accounts whose lock is held (p_locked) and whose rollups belong to the settings of the deltas, and appends the others.';

create function rollup.statement_deltas(p_source text)
returns text
language sql stable parallel safe;
comment on function rollup.statement_deltas(p_source text) is 'The query for the deltas of the events of a statement. p_source: a query for these with their sign, 1 or -1. Its parameters: $1 the accounts, $2 whether it is a delete.';

create function rollup.track_events()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = 50ms
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set work_mem = 64MB
set jit = off;
comment on function rollup.track_events() is 'Trigger function of reporting_events, for each statement. Applies the statement''s deltas under the account''s lock if it can be had at once and there are no more than inline_events(), and appends them otherwise. Its errors become warnings and dirty marks; after the first of a transaction its accounts are marked as a whole, once. Does nothing on any other table than the host''s.';

create function rollup.track_truncate()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = 50ms;
comment on function rollup.track_truncate() is 'Trigger function of reporting_events for truncate: marks all accounts with a zone as dirty and does nothing else.';

-- sql/40_raw_events.sql

create function rollup.day_events(p_account_id integer, p_event_names text[], p_timezone text, p_from date, p_to date)
returns TABLE(date date, name text, user_id bigint, inbox_id bigint, conversation_id bigint, value double precision, value_in_business_hours double precision)
language sql stable parallel safe;
comment on function rollup.day_events(p_account_id integer, p_event_names text[], p_timezone text, p_from date, p_to date) is 'The raw events of an account''s days p_from to p_to (inclusive, infinite: open), with their day. One without created_at has none.';

create function rollup.raw_totals(p_account_id integer, p_timezone text, p_from date, p_to date)
returns SETOF rollup.reporting_events_rollups
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.raw_totals(p_account_id integer, p_timezone text, p_from date, p_to date) is 'The daily totals of an account''s days p_from to p_to (inclusive, infinite: open) as the raw events have them, distinct counts apart.';

create function rollup.raw_ledger(p_account_id integer, p_timezone text, p_from date, p_to date)
returns SETOF rollup.ledger
language sql stable parallel safe;
comment on function rollup.raw_ledger(p_account_id integer, p_timezone text, p_from date, p_to date) is 'The ledger of an account''s days p_from to p_to (inclusive, infinite: open) as the raw events have it.';

create function rollup.events_of_utc_days(p_account_id integer, p_from date, p_to date)
returns TABLE(created_at timestamp without time zone)
language sql stable parallel safe;
comment on function rollup.events_of_utc_days(p_account_id integer, p_from date, p_to date) is 'The raw events of an account on the UTC days p_from to p_to, which are near enough to its own for deciding how many to take at once.';

create function rollup.plan_chunks(p_account_id integer, p_from date, p_to date, p_max_events bigint)
returns TABLE(chunk integer, from_date date, to_date date, events bigint)
language sql stable
set search_path = pg_catalog, pg_temp
set jit = off
set enable_sort = off
set max_parallel_workers_per_gather = 0;
comment on function rollup.plan_chunks(p_account_id integer, p_from date, p_to date, p_max_events bigint) is 'Cuts the days p_from to p_to into chunks that together are the whole range. A chunk has at most p_max_events raw events and those of its last day.';

create function rollup.memory_chunk_events()
returns bigint
language sql immutable parallel safe;
comment on function rollup.memory_chunk_events() is 'About how many raw events backfill and verify take at once: for these they need a few hundred MB of memory.';

create function rollup.memory_chunks(p_account_id integer, p_from date, p_to date)
returns TABLE(from_date date, to_date date)
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.memory_chunks(p_account_id integer, p_from date, p_to date) is 'The days p_from to p_to in chunks that fit into memory: see memory_chunk_events.';

-- sql/41_rebuild.sql

create function rollup.pending_totals(p_account_id integer, p_from date, p_to date)
returns SETOF rollup.reporting_events_rollups
language sql stable;
comment on function rollup.pending_totals(p_account_id integer, p_from date, p_to date) is 'What the pending deltas of the days p_from to p_to add to the daily totals, distinct counts apart.';

create function rollup.stored_totals(p_account_id integer, p_from date, p_to date, p_distinct boolean)
returns SETOF rollup.reporting_events_rollups
language sql stable;
comment on function rollup.stored_totals(p_account_id integer, p_from date, p_to date, p_distinct boolean) is 'The rollups of an account''s days p_from to p_to, with or without those of distinct counts (NULL: all), as applied so far.';

create function rollup.differ(p_expected rollup.reporting_events_rollups, p_actual rollup.reporting_events_rollups)
returns boolean
language sql immutable;
comment on function rollup.differ(p_expected rollup.reporting_events_rollups, p_actual rollup.reporting_events_rollups) is 'Whether two totals of the same day, dimension and metric differ.';

create function rollup.change_of(p_account_id integer, p_expected rollup.reporting_events_rollups, p_actual rollup.reporting_events_rollups)
returns rollup.reporting_events_rollups
language sql stable;
comment on function rollup.change_of(p_account_id integer, p_expected rollup.reporting_events_rollups, p_actual rollup.reporting_events_rollups) is 'What must be added to a total for it to be as expected.';

create function rollup.total_differences(p_account_id integer, p_timezone text, p_from date, p_to date, p_pending boolean)
returns TABLE(expected rollup.reporting_events_rollups, actual rollup.reporting_events_rollups)
language sql stable;
comment on function rollup.total_differences(p_account_id integer, p_timezone text, p_from date, p_to date, p_pending boolean) is 'Where the daily totals of the days p_from to p_to, distinct counts apart, differ from the raw events; with p_pending, as if the pending deltas were applied. NULL: there is none.';

create function rollup.ledger_differences(p_account_id integer, p_timezone text, p_from date, p_to date, p_pending boolean)
returns TABLE(event_name rollup.distinct_event, conversation_id bigint, date date, user_id bigint, inbox_id bigint, expected_count bigint, actual_count bigint)
language sql stable;
comment on function rollup.ledger_differences(p_account_id integer, p_timezone text, p_from date, p_to date, p_pending boolean) is 'Where the ledger of the days p_from to p_to differs from the raw events; with p_pending, as if the pending deltas were applied.';

create function rollup.expected_previous_dates(p_account_id integer, p_from date, p_to date, p_dates date[] DEFAULT '{}'::date[])
returns SETOF rollup.previous_dates
language sql stable;
comment on function rollup.expected_previous_dates(p_account_id integer, p_from date, p_to date, p_dates date[]) is 'The rows of previous_dates of the days p_from to p_to, and of p_dates, as they follow from the ledger.';

create function rollup.previous_date_differences(p_account_id integer, p_expected rollup.previous_dates[], p_from date, p_to date, p_dates date[] DEFAULT '{}'::date[])
returns TABLE(event_name rollup.distinct_event, dimension_type text, dimension_id bigint, date date, previous_date date, expected_count bigint, actual_count bigint)
language sql stable;
comment on function rollup.previous_date_differences(p_account_id integer, p_expected rollup.previous_dates[], p_from date, p_to date, p_dates date[]) is 'Where previous_dates of the days p_from to p_to, and of p_dates, is not p_expected.';

create function rollup.distinct_total_differences(p_account_id integer, p_expected rollup.previous_dates[], p_from date, p_to date)
returns TABLE(expected rollup.reporting_events_rollups, actual rollup.reporting_events_rollups)
language sql stable;
comment on function rollup.distinct_total_differences(p_account_id integer, p_expected rollup.previous_dates[], p_from date, p_to date) is 'Where the daily distinct counts of the days p_from to p_to do not follow from p_expected, which has the rows of previous_dates.';

create function rollup.rebuild(p_account_id integer, p_from date, p_to date, OUT rows_written bigint, OUT claimed boolean)
returns record
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_sort = off
set enable_seqscan = off
set max_parallel_workers_per_gather = 0
set work_mem = 64MB
set hash_mem_multiplier = 8;
comment on function rollup.rebuild(p_account_id integer, p_from date, p_to date, OUT rows_written bigint, OUT claimed boolean) is 'Under the account''s lock: makes the rollups, ledger and previous dates of the days p_from to p_to (inclusive; infinite: open) what the raw events say, and claims the days as covered unless older transactions are still under way, or changes of the host''s table do not reach us. Leaves sealed days out: their raw events may be gone. rows_written: the rows of reporting_events_rollups that the days have then, whether they were right before or not.';

create function rollup.begin_rebuild(p_function text, p_account_id integer, p_patience interval DEFAULT '00:00:10'::interval)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.begin_rebuild(p_function text, p_account_id integer, p_patience interval) is 'Checks what every rebuild needs, takes the account''s lock, clears what is of an old zone, and returns the generation. Errors: RU002, RU004, RU005, RU006, RU011.';

-- sql/42_backfill_runs.sql

create function rollup.queue_backfill(p_run_id bigint, p_delay interval DEFAULT '00:00:00'::interval)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.queue_backfill(p_run_id bigint, p_delay interval) is 'Gives a run that has not ended a job, in place of the one it had, which ends when it notices; returns the job''s id.';

create function rollup.enqueue_backfill(p_account_id integer, p_from date DEFAULT NULL::date, p_to date DEFAULT NULL::date)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.enqueue_backfill(p_account_id integer, p_from date, p_to date) is 'Asks the worker to rebuild the days p_from to p_to of an account (inclusive, NULL: open) and returns the id of the run in rollup.backfill_runs, which shows its progress. A run that has not begun is extended rather than doubled. Errors: RU002 no zone, RU003 reversed or infinite dates, RU011 on another node, RU012 sealed days. Example: select rollup.enqueue_backfill(1);';

create function rollup.is_being_backfilled(p_account_id integer)
returns boolean
language sql stable;
comment on function rollup.is_being_backfilled(p_account_id integer) is 'Whether a run of the account is under way.';

create function rollup.begin_next_backfill(p_account_id integer)
returns void
language sql volatile;
comment on function rollup.begin_next_backfill(p_account_id integer) is 'When a run of an account has ended: lets the one that waits for it begin.';

create function rollup.cancel_backfill(p_run_id bigint)
returns rollup.backfill_runs
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.cancel_backfill(p_run_id bigint) is 'Cancels a run and returns its row; a chunk under way is finished, the others stay as they are. A run that has ended is left as it is. Errors: RU010 no such run. Example: select rollup.cancel_backfill(7);';

create function rollup.cancel_outdated_backfill(p_run_id bigint)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.cancel_outdated_backfill(p_run_id bigint) is 'Cancels a run whose account has another zone now, or none: what it has done is void, and the new zone has queued a run of its own.';

create function rollup.chunk_events()
returns bigint
language sql immutable parallel safe;
comment on function rollup.chunk_events() is 'How many raw events a chunk of a backfill run has, about: a fraction of a second of work, so that progress is seen and little lost.';

create function rollup.is_lock_conflict(p_sqlstate text)
returns boolean
language sql immutable parallel safe;
comment on function rollup.is_lock_conflict(p_sqlstate text) is 'Whether an error is somebody else''s lock, or a deadlock with him, and no fault of what was tried.';

create function rollup.is_permanent_error(p_sqlstate text)
returns boolean
language sql immutable parallel safe;
comment on function rollup.is_permanent_error(p_sqlstate text) is 'Whether another attempt would fail alike until somebody changes something: a right, a table, a publication, the account''s zone.';

create function rollup.max_attempts()
returns integer
language sql immutable parallel safe;
comment on function rollup.max_attempts() is 'How often a chunk of a run, or its beginning, is tried before it has failed.';

create function rollup.begin_backfill(p_run_id bigint)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.begin_backfill(p_run_id bigint) is 'Under the account''s lock: begins a pending run by cutting it into chunks; whether it was pending.';

create function rollup.next_chunk(p_account_id integer, p_run_id bigint)
returns rollup.backfill_chunks
language sql stable;
comment on function rollup.next_chunk(p_account_id integer, p_run_id bigint) is 'The chunk of a run to be rebuilt next; NULL when all have ended.';

create function rollup.record_chunk(p_chunk rollup.backfill_chunks, p_state text, p_error text, p_events bigint DEFAULT 0, p_rows_written bigint DEFAULT 0)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.record_chunk(p_chunk rollup.backfill_chunks, p_state text, p_error text, p_events bigint, p_rows_written bigint) is 'Records an attempt at a chunk: its state after it, the error or what it read and wrote. After the last chunk the run has ended.';

create function rollup.fail_backfill(p_run_id bigint, p_chunk rollup.backfill_chunks, p_sqlstate text, p_error text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.fail_backfill(p_run_id bigint, p_chunk rollup.backfill_chunks, p_sqlstate text, p_error text) is 'Records that a chunk or, without one, the beginning of a run has failed: it is tried five times, what cannot succeed once. Days of a failed chunk stay as they were.';

create function rollup.note_waiting(p_run_id bigint, p_reason text)
returns void
language sql volatile;
comment on function rollup.note_waiting(p_run_id bigint, p_reason text) is 'Says in a run why it does not go on.';

create function rollup.backfill_obstacle(p_run_id bigint, p_job_id bigint)
returns text
language sql stable;
comment on function rollup.backfill_obstacle(p_run_id bigint, p_job_id bigint) is 'Why a job cannot go on with a run: "ended" is for ever (it has another job, or is no more), "waiting" until another run of the account has ended; NULL: it can.';

create function rollup.backfill_pause(p_run_id bigint, p_attempts integer)
returns integer
language sql stable;
comment on function rollup.backfill_pause(p_run_id bigint, p_attempts integer) is 'The seconds until a run goes on after a chunk that had been tried p_attempts times before: none as long as others are left that were not tried more often. NULL: it has ended.';

create function rollup.continue_backfill(p_run_id bigint, p_job_id bigint DEFAULT NULL::bigint, OUT outcome text, OUT account_id integer, OUT chunk integer, OUT events bigint, OUT error text, OUT state text, OUT wait_seconds integer)
returns record
language plpgsql volatile
set lock_timeout = 300ms
set search_path = pg_catalog, pg_temp;
comment on function rollup.continue_backfill(p_run_id bigint, p_job_id bigint, OUT outcome text, OUT account_id integer, OUT chunk integer, OUT events bigint, OUT error text, OUT state text, OUT wait_seconds integer) is 'One step of a run, for the job of the worker that repeats it, in a transaction of its own: begins the run, or rebuilds a chunk and records it, so that nothing is done twice or left out whenever it is killed. outcome: begun, rebuilt, failed (an attempt, see error), waiting (for another run, for older transactions, for a lock), ended (nothing is left for this job). state: of the run. wait_seconds: until the next step; NULL: none. Errors of what it does are recorded, not raised. Example: select * from rollup.continue_backfill(7);';

create function rollup.settle_pending_backfill(p_account_id integer, p_generation bigint, p_from date, p_to date, p_rows bigint)
returns void
language sql volatile;
comment on function rollup.settle_pending_backfill(p_account_id integer, p_generation bigint, p_from date, p_to date, p_rows bigint) is 'Marks a run that has not begun as done when its days have just been rebuilt by rollup.backfill.';

create function rollup.requeue_backfills()
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.requeue_backfills() is 'Gives a job to all runs that have not ended and have none, for when the queue was lost, restored without them, or has given them up; returns how many. Safe beside workers.';

create function rollup.forget_backfills(p_older_than interval DEFAULT '90 days'::interval)
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.forget_backfills(p_older_than interval) is 'Removes runs that ended longer ago than p_older_than, 90 days by default; the worker does so once a day. Returns how many.';

-- sql/43_backfill.sql

create function rollup.claim_later(p_account_id integer, p_from date, p_to date)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.claim_later(p_account_id integer, p_from date, p_to date) is 'Tells that a rebuilt range could not be claimed yet, and queues it for the worker.';

create function rollup.backfill(p_account_id integer, p_from date DEFAULT NULL::date, p_to date DEFAULT NULL::date)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.backfill(p_account_id integer, p_from date, p_to date) is 'Rebuilds the days p_from to p_to of an account from its raw events, atomically, and returns the number of rows of reporting_events_rollups that they then have. Both are account-local dates, inclusive; NULL: from the first, through the last event on; both NULL: the whole history, and the trigger keeps days to come complete. Sealed days are left as they are. Writers go on meanwhile. Large histories are better given to enqueue_backfill. Errors: RU002 no zone, RU003 reversed or infinite dates, RU004 not read committed, RU005 a second account in one transaction, RU006 the account''s lock not granted within 10 s (half a second if the transaction has locked something of the host, see holds_host_lock), RU011 row level security, or on another node, RU012 sealed days asked for, 55P03 one of our tables locked. Example: select rollup.backfill(1, ''2026-01-01'', ''2026-01-31'');';

create function rollup.backfill_date(p_account_id integer, p_date date)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.backfill_date(p_account_id integer, p_date date) is 'Rebuilds one account-local day from the raw events, atomically, and returns the number of rows of reporting_events_rollups that it then has. Errors as in rollup.backfill. Example: select rollup.backfill_date(1, ''2026-02-11'');';

-- sql/44_reporting_timezone.sql

create function rollup.accounts_table()
returns oid
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.accounts_table() is 'The host''s table of accounts; NULL if there is none, or if reading it would run the functions of others, as a view''s and a policy''s are.';

create function rollup.host_accounts()
returns oid
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.host_accounts() is 'The table in which the host keeps the settings of its accounts: public.accounts with settings jsonb, if the owner of this schema may read it; else NULL.';

create function rollup.setting_timezone(p_settings jsonb)
returns text
language sql immutable parallel safe;
comment on function rollup.setting_timezone(p_settings jsonb) is 'The name of a zone in the host''s settings of an account; empty for none.';

create function rollup.lock_host_setting(p_account_id integer)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.lock_host_setting(p_account_id integer) is 'Locks the host''s row of an account and returns the name of the zone that stands there, empty for none; NULL where the host keeps no setting of it. Waits 10 s for the row, or 0.3 s in a transaction that has locked something of the host, then raises RU006.';

create function rollup.timezone_obstacle(p_account_id integer)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.timezone_obstacle(p_account_id integer) is 'Why the zone of an account cannot be changed or taken away, or NULL. Ask under lock_settings, in a statement of its own: a seal that has seen the zone holds that lock until it is there.';

create function rollup.change_timezones(p_account_ids integer[], p_timezones text[], p_host_timezones text[])
returns SETOF integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.change_timezones(p_account_ids integer[], p_timezones text[], p_host_timezones text[]) is 'Gives accounts, whose settings rows are locked, their zones (p_timezones, NULL: none), and notes what stands in the host''s settings (p_host_timezones). Returns those that have another zone now: these begin anew, and need a backfill.';

create function rollup.require_writable_setting(p_account_id integer)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_writable_setting(p_account_id integer) is 'Raises RU016 where what the host has in an account''s settings is no object.';

create function rollup.set_reporting_timezone(p_account_id integer, p_timezone text)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.set_reporting_timezone(p_account_id integer, p_timezone text) is 'Sets the time zone that decides the day of an account''s events, by its name in the IANA database or in Rails, any case; NULL switches its rollups off. Where the host keeps the setting (public.accounts.settings) it is written there. Returns the settings. A zone other than the present one makes the rollups start anew: reads use raw events until the backfill that it queues has run. Errors: RU001 no such zone (the hint suggests names), RU004 not read committed, RU006 the host''s row locked for 10 s (0.3 s in a transaction that has locked something of the host), RU009 no account, RU012 the account has sealed days, RU016 the host''s settings are no object, 42501 no right on the host''s table. Example: select rollup.set_reporting_timezone(1, ''America/New_York'');';

-- sql/45_verify.sql

create function rollup.verify(p_account_id integer, p_from date DEFAULT NULL::date, p_to date DEFAULT NULL::date)
returns TABLE(structure text, date date, dimension_type text, dimension_id bigint, metric text, expected_count bigint, actual_count bigint, expected_sum_value numeric, actual_sum_value numeric, expected_sum_value_business_hours numeric, actual_sum_value_business_hours numeric, expected_count_value bigint, actual_count_value bigint, expected_count_value_business_hours bigint, actual_count_value_business_hours bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_sort = off
set enable_seqscan = off
set max_parallel_workers_per_gather = 0
set work_mem = 64MB
set hash_mem_multiplier = 8;
comment on function rollup.verify(p_account_id integer, p_from date, p_to date) is 'Recomputes the clean days of an account that are not sealed from its raw events, in one snapshot, and returns a row for each difference to what is kept, pending deltas counted as applied; none when exact. p_from, p_to: account-local dates, inclusive, NULL: open. structure: rollup; ledger (dimension_id is the conversation) against the raw events; previous_date, and distinct counts, against the ledger. Sums are seconds; expected_count_value, …: how many events have the value. Errors: RU002 no zone, RU003 reversed or infinite dates, RU011 row level security, or on another node. Example: select * from rollup.verify(1);';

create function rollup.record_verification(p_account_id integer, p_differences bigint)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.record_verification(p_account_id integer, p_differences bigint) is 'Notes in account_status how many differences a verification of all clean days has found; the command line does so.';

-- sql/46_repair.sql

create function rollup.repair(p_account_id integer, p_from date DEFAULT NULL::date, p_to date DEFAULT NULL::date)
returns SETOF date
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.repair(p_account_id integer, p_from date, p_to date) is 'Rebuilds the days of an account that differ from the raw events or are dirty, in one transaction, and returns them; all days if the account as a whole is dirty and no range is given. Sealed days are left as they are. Writers leave deltas meanwhile. Errors as in rollup.backfill, whether or not something differs. Example: select rollup.repair(1);';

-- sql/47_host_table.sql

create function rollup.missing_host_triggers()
returns TABLE(name text, definition text)
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.missing_host_triggers() is 'The triggers that the host''s table should have and does not.';

create function rollup.host_table_state()
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.host_table_state() is 'What would be another if the host''s table had been changed behind our triggers: itself, the triggers, the partitions and their files.';

create function rollup.host_table_changed(p_before jsonb, p_now jsonb)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.host_table_changed(p_before jsonb, p_now jsonb) is 'Whether rows may have come or gone unseen between two states of the host''s table. A partition that is new and empty is none.';

create function rollup.watch_host_table()
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.watch_host_table() is 'Compares the host''s table with what it was at the last look. Where rows may have come or gone behind our triggers, no day of any account is clean any more: reads use raw events, and backfills are queued, though not before changes reach us again. Returns how many accounts begin anew. The worker does this once a minute.';

create function rollup.watch_zone_rules()
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.watch_zone_rules() is 'Compares the clocks of the accounts'' zones with those that their rollups were made by. Where a government has changed them, also for the past, events have moved to other days: the account begins anew, as after a change of its zone. Returns how many do. The worker does this when it starts and daily, migrate every time; sessions that are older than the server''s new time zone data reckon by the old.';

-- sql/48_host_settings.sql

create function rollup.host_setting_triggers()
returns TABLE(name text, definition text)
language sql immutable parallel safe;
comment on function rollup.host_setting_triggers() is 'The triggers on the host''s accounts, and when they call track_host_setting.';

create function rollup.missing_host_setting_triggers()
returns TABLE(name text, definition text)
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.missing_host_setting_triggers() is 'Those that the host''s accounts do not have; no row where the host keeps no zones.';

create function rollup.host_setting_obstacles()
returns SETOF text
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.host_setting_obstacles() is 'Why the zones that the host keeps do not reach us, or not at once, in plain words; no row if they do, or if it keeps none.';

create function rollup.track_host_setting()
returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = 50ms;
comment on function rollup.track_host_setting() is 'Trigger function of the host''s accounts, for a row whose zone is another: gives the account that zone if its settings row can be had without waiting, and leaves it to follow_host_settings() otherwise: in another isolation level than read committed, after an error, which becomes a warning, or after some accounts of one transaction. Does nothing on any other table than the host''s.';

create function rollup.host_differences()
returns TABLE(account_id integer, name text)
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.host_differences() is 'The accounts whose setting at the host is not the one that was followed last, and what it is; NULL: the host has the account no more.';

create function rollup.add_settings(p_account_ids integer[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 50ms;
comment on function rollup.add_settings(p_account_ids integer[]) is 'Makes the settings rows that are missing, but for those that somebody else is making.';

create function rollup.host_setting_obstacle(p_account_id integer)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.host_setting_obstacle(p_account_id integer) is 'Why what stands in the host''s setting of an account is not followed, or NULL.';

create function rollup.forget_accounts(p_account_ids integer[])
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.forget_accounts(p_account_ids integer[]) is 'Removes what is left of accounts that the host has deleted, up to 100, as far as their rollups have been cleared. Their settings rows must be locked.';

create function rollup.follow_host_settings()
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.follow_host_settings() is 'Gives accounts the zones that stand in the host''s settings of them (public.accounts.settings ->> ''reporting_timezone''), where its trigger has not done so; an unknown name switches off. Accounts that somebody is changing right now are left for the next time, and accounts that the host has deleted are forgotten once they are cleared. Queues backfills, to which a worker gives jobs. Returns how many accounts have another zone now. The worker does this every ten seconds, migrate at its end. Errors: RU004 not read committed, 55P03 a table locked. Example: select rollup.follow_host_settings();';

-- sql/49_seal.sql

create function rollup.require_one_server(p_function text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_one_server(p_function text) is 'Raises RU013 on a Citus cluster.';

create function rollup.require_sealable(p_account_id integer, p_through date, p_unclean datemultirange, p_differing date[], p_changed boolean)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_sealable(p_account_id integer, p_through date, p_unclean datemultirange, p_differing date[], p_changed boolean) is 'Raises RU013, naming the reason, where the days of an account through p_through cannot be sealed.';

create function rollup.seal(p_account_id integer, p_through date)
returns date
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.seal(p_account_id integer, p_through date) is 'Seals the days of an account up to p_through (account-local, inclusive) and returns it. They must be over, clean, and equal to the raw events: pending deltas are folded and the days compared first, at the cost of rollup.verify. From then on they change by inserts and updates only: deletes of raw events do not subtract from them, nothing rebuilds them, and the account keeps its zone. A delete under way is subtracted as a whole or not at all. Sealing again further on goes on from there. Errors: RU013 not clean, differing, not over, or moving back; else as in rollup.backfill. Example: select rollup.seal(1, ''2025-12-31'');';

create function rollup.unseal(p_account_id integer)
returns date
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.unseal(p_account_id integer) is 'Takes the seal from the days of an account and returns the last of them, NULL if none was sealed. They follow their raw events again: they are read from these until the backfill that it queues has run. Errors: RU014 raw events were purged; else as in rollup.backfill. Example: select rollup.unseal(1);';

create function rollup.queue_purge(p_account_id integer)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.queue_purge(p_account_id integer) is 'Gives a purge its job.';

create function rollup.purge(p_account_id integer, p_before date)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.purge(p_account_id integer, p_before date) is 'Has the worker delete the raw events of an account before an account-local date, day by day, those that count towards a metric; returns how many have been deleted so far. All of these days must be sealed. Totals, distinct counts over any range and reports of whole days stay; from this call on reads that would need those raw events are an error, and the days cannot be unsealed. Progress: account_status. Errors: RU013 days are not sealed; else as in rollup.backfill. Example: select rollup.purge(1, ''2025-01-01'');';

create function rollup.continue_purge(p_account_id integer, OUT day date, OUT events bigint)
returns record
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.continue_purge(p_account_id integer, OUT day date, OUT events bigint) is 'One step of a purge, for the job of the worker that repeats it, in a transaction of its own: deletes the raw events of the next day. day: which; NULL: none is left. The trigger''s deltas of these deletes do not count: the days are sealed. Waits for no lock of the host''s longer than lock_wait(). Errors as in rollup.backfill.';

create function rollup.requeue_purges()
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.requeue_purges() is 'Gives a job to all purges that have none, for when the queue was lost; returns how many.';

create function rollup.set_retention(p_account_id integer, p_months integer)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.set_retention(p_account_id integer, p_months integer) is 'For how many whole calendar months before the present one the raw events of an account are kept; NULL, as at first: all are. The worker seals and purges what is older as months go by. Returns the settings. Errors: RU003 less than 1, RU009 no account, RU013 on Citus. Example: select rollup.set_retention(1, 13);';

create function rollup.retention_due(p_now timestamp with time zone DEFAULT now())
returns TABLE(account_id integer, before date)
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.retention_due(p_now timestamp with time zone) is 'The accounts whose raw events are to be sealed and purged by their retention, and before which day.';

create function rollup.apply_retention(p_account_id integer, p_now timestamp with time zone DEFAULT now())
returns date
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.apply_retention(p_account_id integer, p_now timestamp with time zone) is 'Seals and purges the raw events of an account that its retention lets go; returns the day before which, NULL if none is due. The worker does so once an hour. Errors as in rollup.seal and rollup.purge. Example: select rollup.apply_retention(1);';

-- sql/50_read_plan.sql

create function rollup.read_metric(p_metric text)
returns TABLE(aggregate text, event_name text, metric text, is_distinct boolean, why_raw text)
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.read_metric(p_metric text) is 'What a report metric is made of. is_distinct: it counts conversations, not events; why_raw: why it comes from raw events alone, or NULL. Raises RU008 for an unknown one, RU009 for NULL.';

create function rollup.require_known_account(p_account_id integer)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_known_account(p_account_id integer) is 'Raises RU007 for an account without settings, events and a row in public.accounts.';

create function rollup.require_read_range(p_function text, p_account_id integer, p_since timestamp with time zone, p_until timestamp with time zone, p_group_by text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_read_range(p_function text, p_account_id integer, p_since timestamp with time zone, p_until timestamp with time zone, p_group_by text) is 'Raises RU009 for a range or an account that is NULL, RU003 for a range that is reversed, infinite or has too many periods.';

create function rollup.read_timezone(p_account_id integer, p_timezone text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.read_timezone(p_account_id integer, p_timezone text) is 'The zone of a read: as asked, or the account''s, or UTC. Raises RU001 for one that the server does not know, RU007 for an account that nobody knows.';

create function rollup.prepare_read(p_function text, p_account_id integer, p_since timestamp with time zone, p_until timestamp with time zone, p_group_by text, p_timezone text, p_dimension_type text DEFAULT 'account'::text, p_dimension_id bigint DEFAULT NULL::bigint, p_business_hours boolean DEFAULT false)
returns rollup.read
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.prepare_read(p_function text, p_account_id integer, p_since timestamp with time zone, p_until timestamp with time zone, p_group_by text, p_timezone text, p_dimension_type text, p_dimension_id bigint, p_business_hours boolean) is 'Checks the arguments of a read, and has it take all from raw events: see choose_sources. Errors: RU001, RU003, RU007, RU008, RU009, RU011.';

create function rollup.require_dimension_id(p_function text, p_read rollup.read)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_dimension_id(p_function text, p_read rollup.read) is 'Raises RU009 for a read of an agent or inbox without its id.';

create function rollup.why_raw(p_settings rollup.account_settings, p_read rollup.read)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.why_raw(p_settings rollup.account_settings, p_read rollup.read) is 'Why no part of a read may come from rollups, or NULL if days of it may. A zone with the clocks of the account''s is the same.';

create function rollup.shortened_day(p_read rollup.read, p_clean datemultirange)
returns date
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.shortened_day(p_read rollup.read, p_clean datemultirange) is 'The clean day that the end of a read cuts off in its second half, as 23:59:59 does; NULL: none. The fewer events are those after it.';

create function rollup.split_periods(p_days datemultirange, p_group_by text)
returns datemultirange
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp;
comment on function rollup.split_periods(p_days datemultirange, p_group_by text) is 'Those days, from the first to the last, of the periods that have several pieces of p_days.';

create function rollup.require_raw_events(p_read rollup.read, p_why text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_raw_events(p_read rollup.read, p_why text) is 'Raises RU014 where a read takes raw events of days from which they were purged. p_why: why it takes them; NULL: parts of days.';

create function rollup.choose_sources(p_read rollup.read, p_distinct boolean, p_why_raw text DEFAULT NULL::text)
returns rollup.read
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.choose_sources(p_read rollup.read, p_distinct boolean, p_why_raw text) is 'A read with the days that it takes from rollups and from raw events. p_distinct: whether it counts distinct conversations; p_why_raw: why all must come from raw events, if so. Errors: RU014 raw events that it needs were purged.';

create function rollup.read_plan(p_account_id integer, p_since timestamp with time zone, p_until timestamp with time zone, p_metric text DEFAULT NULL::text, p_group_by text DEFAULT 'day'::text, p_timezone text DEFAULT NULL::text)
returns TABLE(starts_at timestamp with time zone, ends_at timestamp with time zone, source text, reason text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp;
comment on function rollup.read_plan(p_account_id integer, p_since timestamp with time zone, p_until timestamp with time zone, p_metric text, p_group_by text, p_timezone text) is 'Which part of [p_since, p_until) a read takes from rollups and which from raw events, and why. Arguments as in rollup.timeseries; p_metric: medians, rates and counts of conversations cannot use all rollups that others can. Example: select * from rollup.read_plan(1, ''2026-01-01'', ''2027-01-01'');';

-- sql/51_sources.sql

create function rollup.rollup_rows(p_read rollup.read, p_metric text)
returns TABLE(date date, dimension_id bigint, count bigint, sum_value numeric, count_value bigint)
language sql stable parallel safe;
comment on function rollup.rollup_rows(p_read rollup.read, p_metric text) is 'The daily totals of a metric in the rollups.';

create function rollup.pending_sums(p_read rollup.read, p_event_name text)
returns TABLE(date date, dimension_id bigint, count bigint, sum_value numeric, count_value bigint)
language sql stable parallel safe;
comment on function rollup.pending_sums(p_read rollup.read, p_event_name text) is 'What the pending deltas of an event name add to the days that are taken from rollups.';

create function rollup.pending_conversations(p_read rollup.read, p_event_name text)
returns TABLE(date date, conversation_id bigint, count bigint)
language sql stable parallel safe;
comment on function rollup.pending_conversations(p_read rollup.read, p_event_name text) is 'Signed counts of the events that conversations have in the pending deltas of the days that are taken from rollups, in one dimension.';

create function rollup.raw_rows(p_read rollup.read, p_event_name text)
returns TABLE(period timestamp without time zone, dimension_id bigint, conversation_id bigint, sign integer, value bigint, seconds double precision, created_at timestamp without time zone)
language sql stable parallel safe;
comment on function rollup.raw_rows(p_read rollup.read, p_event_name text) is 'The raw events of an event name that a read takes as they are; sign -1: those that it takes off the last of its days. value: in microseconds, NULL if there is none; seconds: as it stands there.';

create function rollup.raw_sums(p_read rollup.read, p_event_name text)
returns TABLE(period timestamp without time zone, dimension_id bigint, count bigint, sum_value numeric, count_value bigint)
language sql stable parallel safe;
comment on function rollup.raw_sums(p_read rollup.read, p_event_name text) is 'Counts, sums of values and how many had a value, of the raw events that a read takes as they are.';

create function rollup.read_totals(p_read rollup.read, p_event_name text, p_metric text)
returns TABLE(period timestamp without time zone, dimension_id bigint, count bigint, sum_value numeric, count_value bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.read_totals(p_read rollup.read, p_event_name text, p_metric text) is 'Counts, sums of values and how many had a value, of the events of a metric that add up.';

create function rollup.read_conversations(p_read rollup.read, p_event_name text)
returns TABLE(period timestamp without time zone, count bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.read_conversations(p_read rollup.read, p_event_name text) is 'Distinct conversations that have an event of a name, of one dimension: those of the rollups, and the difference that pending deltas and raw events make. What happens outside a period makes none.';

create function rollup.value(p_aggregate text, p_count bigint, p_sum_value numeric, p_count_value bigint)
returns numeric
language sql immutable parallel safe;
comment on function rollup.value(p_aggregate text, p_count bigint, p_sum_value numeric, p_count_value bigint) is 'The value of a report metric: the count, or the average of the events that have a value; NULL where none has.';

create function rollup.read_percentiles(p_read rollup.read, p_event_name text, p_fraction double precision)
returns TABLE(period timestamp without time zone, value numeric, count bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set extra_float_digits = 1;
comment on function rollup.read_percentiles(p_read rollup.read, p_event_name text, p_fraction double precision) is 'percentile_cont of the values, in seconds, of the raw events that have one, NULL where none has; count: all events.';

create function rollup.read_bot_outcomes(p_read rollup.read)
returns TABLE(period timestamp without time zone, resolutions bigint, handoffs bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_nestloop = off;
comment on function rollup.read_bot_outcomes(p_read rollup.read) is 'From raw events: the bot''s resolutions of conversations that have no hand-off in the range and dimension, or none at all, and the distinct conversations handed off.';

create function rollup.period_values(p_read rollup.read, p_aggregate text, p_event_name text, p_metric text, p_distinct boolean)
returns TABLE(period timestamp without time zone, value numeric, count bigint)
language sql stable;
comment on function rollup.period_values(p_read rollup.read, p_aggregate text, p_event_name text, p_metric text, p_distinct boolean) is 'A report metric, described as by read_metric, of one dimension, in the periods that have events of it.';

-- sql/52_reports.sql

create function rollup.timeseries(p_account_id integer, p_metric text, p_since timestamp with time zone, p_until timestamp with time zone, p_group_by text DEFAULT 'day'::text, p_dimension_type text DEFAULT 'account'::text, p_dimension_id bigint DEFAULT NULL::bigint, p_business_hours boolean DEFAULT false, p_timezone text DEFAULT NULL::text)
returns TABLE(period_start timestamp with time zone, value numeric, count bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_sort = off;
comment on function rollup.timeseries(p_account_id integer, p_metric text, p_since timestamp with time zone, p_until timestamp with time zone, p_group_by text, p_dimension_type text, p_dimension_id bigint, p_business_hours boolean, p_timezone text) is 'A report metric over [p_since, p_until) by local period: hour, day, week (from Sunday), month, quarter or year; a row for every period touched, at most 100,000; one without events is 0. period_start: its local beginning. value: the count; or the average, median or 90th percentile in seconds of the events that have the value, unrounded, NULL where events have none; or the rate in percent. count: the events, or the conversations where these are counted; what a rate divides by. bot_resolutions_net_count and rates depend on the whole range: a hand-off anywhere in it takes away its conversation''s bot resolutions. p_metric: see rollup.report_metrics. p_dimension_type: account, agent or inbox, the latter two with p_dimension_id. p_business_hours: of value_in_business_hours. p_timezone: IANA name, NULL: the account''s, or UTC. Exact at any moment; rollup.read_plan tells what it reads. Errors: RU001 zone, RU003 range, RU007 unknown account, RU008 unknown name, RU009 missing argument, RU011 row level security, RU014 raw events of purged days are needed. Example: select * from rollup.timeseries(1, ''resolutions_count'', ''2026-01-01'', ''2027-01-01'', ''month'');';

create function rollup.aggregate(p_account_id integer, p_metric text, p_since timestamp with time zone, p_until timestamp with time zone, p_dimension_type text DEFAULT 'account'::text, p_dimension_id bigint DEFAULT NULL::bigint, p_business_hours boolean DEFAULT false, p_timezone text DEFAULT NULL::text)
returns TABLE(value numeric, count bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_sort = off;
comment on function rollup.aggregate(p_account_id integer, p_metric text, p_since timestamp with time zone, p_until timestamp with time zone, p_dimension_type text, p_dimension_id bigint, p_business_hours boolean, p_timezone text) is 'A report metric over [p_since, p_until) as one number: the count (0 without events); the average, median or 90th percentile in seconds (NULL where no event has the value), or the rate in percent (NULL where there is nothing to divide by). Distinct conversations are counted once for the whole range. Arguments and errors as in rollup.timeseries. Example: select * from rollup.aggregate(1, ''bot_handoffs_count'', ''2026-01-01'', ''2026-02-01'');';

create function rollup.summary(p_account_id integer, p_dimension_type text, p_since timestamp with time zone, p_until timestamp with time zone, p_business_hours boolean DEFAULT false, p_timezone text DEFAULT NULL::text)
returns TABLE(dimension_id bigint, resolved_conversations_count bigint, avg_resolution_time numeric, avg_first_response_time numeric, avg_reply_time numeric)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_sort = off;
comment on function rollup.summary(p_account_id integer, p_dimension_type text, p_since timestamp with time zone, p_until timestamp with time zone, p_business_hours boolean, p_timezone text) is 'A row per agent, inbox or account that has any of these events in [p_since, p_until), ordered by its id. Times are averages in seconds of the events that have the value, NULL where none has. Arguments and errors as in rollup.timeseries. Example: select * from rollup.summary(1, ''agent'', ''2026-01-01'', ''2026-02-01'');';

create function rollup.heat_map(p_account_id integer, p_metric text, p_since timestamp with time zone, p_until timestamp with time zone, p_dimension_type text DEFAULT 'account'::text, p_dimension_id bigint DEFAULT NULL::bigint, p_timezone text DEFAULT NULL::text)
returns TABLE(weekday integer, hour integer, count bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_sort = off;
comment on function rollup.heat_map(p_account_id integer, p_metric text, p_since timestamp with time zone, p_until timestamp with time zone, p_dimension_type text, p_dimension_id bigint, p_timezone text) is 'The events of a report metric in [p_since, p_until) by weekday (0: Sunday) and hour of the local clock, from raw events: 168 rows. For metrics of conversations, averages and rates too it is events that are counted. Arguments and errors as in rollup.timeseries. Example: select * from rollup.heat_map(1, ''resolutions_count'', ''2026-01-01'', ''2026-04-01'');';

-- sql/61_account_status.sql

create function rollup.event_span(p_account_id integer, OUT first_event timestamp without time zone, OUT last_event timestamp without time zone)
returns record
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan;
comment on function rollup.event_span(p_account_id integer, OUT first_event timestamp without time zone, OUT last_event timestamp without time zone) is 'When an account had its first and its last event that counts towards a metric, UTC; NULLs: none.';

create function rollup.covered_share(p_account_id integer, p_timezone text)
returns numeric
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.covered_share(p_account_id integer, p_timezone text) is 'Clean days of an account as a share of those from its first to its last event; NULL without events or where the server does not know the zone.';

create function rollup.awaited_by(p_awaited text[])
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.awaited_by(p_awaited text[]) is 'Who is meant by account_coverage.awaited, of those that have not ended.';

-- sql/62_worker.sql

create function rollup.worker_lock_class()
returns integer
language sql immutable parallel safe;
comment on function rollup.worker_lock_class() is 'First half of the advisory locks (worker_lock_class(), hashtext(worker id)) that say a worker is alive; "work" in ASCII.';

create function rollup.live_workers()
returns TABLE(worker_hash integer, pid integer)
language sql volatile;
comment on function rollup.live_workers() is 'The workers that are alive: hashtext of each one''s id, and the session that says so.';

create function rollup.heartbeat(p_worker_id text)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.heartbeat(p_worker_id text) is 'Registers a worker as alive for as long as the session lives (NULL: its queue does not run, none is), and unlocks the jobs of those that are not: a killed worker leaves its jobs locked, which graphile-worker itself would only notice after hours. Safe to repeat; the session must have no advisory locks of its own. Returns how many workers were dead.';

create function rollup.enqueue_repairs()
returns SETOF bigint
language sql volatile;
comment on function rollup.enqueue_repairs() is 'Queues a backfill for accounts with dirty marks: of the days marked, or of the whole account; and of accounts whose rollups belong to another table of the host, or to a version before this was known. None while one of the account is under way or while its settings are being changed, nor within an hour after one of the same days failed or was cancelled. Returns the runs.';

create function rollup.worker_health()
returns TABLE(workers bigint, jobs_ready bigint, jobs_running bigint, jobs_later bigint, jobs_given_up bigint, backfills_pending bigint, backfills_running bigint, accounts_to_fold bigint, deltas_pending bigint, dirty_accounts bigint)
language sql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.worker_health() is 'The workers that are alive and what waits for them (deltas_pending is counted up to a million); each logs this once a minute.';

create function rollup.warnings()
returns SETOF text
language sql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.warnings() is 'What somebody should see to, in plain words: work that nobody does, and backlogs. The worker logs it once a minute, status shows it.';

-- sql/63_command_line.sql

create function rollup.backfill_progress(p_run_id bigint)
returns TABLE(id bigint, account_id integer, from_date date, to_date date, state text, chunks_total integer, chunks_done integer, chunks_failed integer, events bigint, events_total bigint, rows_written bigint, seconds numeric, error text)
language sql volatile
set search_path = pg_catalog, pg_temp;
comment on function rollup.backfill_progress(p_run_id bigint) is 'A run with the number of events it will have read at the end, as counted when it was planned, and the seconds it has taken so far.';

create function rollup.backfill_outlook(p_account_id integer, p_from date DEFAULT NULL::date, p_to date DEFAULT NULL::date)
returns TABLE(account_id integer, reporting_timezone text, first_event timestamp without time zone, last_event timestamp without time zone, from_date date, to_date date, days integer, events bigint, chunks bigint, running_backfill_id bigint, running_covers boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.backfill_outlook(p_account_id integer, p_from date, p_to date) is 'What a backfill of these days would do: the first and the last event in account time, the days and events, and the run of the account that is under way (running_covers: it already rebuilds all of these days). Errors: RU002 no zone, RU003 reversed or infinite dates, RU007 unknown account. Example: select * from rollup.backfill_outlook(1);';

create function rollup.report_window(p_account_id integer, p_since date DEFAULT NULL::date, p_until date DEFAULT NULL::date, p_days integer DEFAULT 30)
returns TABLE(timezone text, since date, until date, days integer, starts timestamp with time zone, ends timestamp with time zone, previous_since date, previous_starts timestamp with time zone)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp;
comment on function rollup.report_window(p_account_id integer, p_since date, p_until date, p_days integer) is 'The range of a report in account-local dates, p_until exclusive: by default the last p_days, today included; and the range of the same length before it. Errors: RU001 a zone that the server does not know, RU003 reversed or infinite dates, RU007 unknown account.';

create function rollup.all_accounts(p_with_timezone boolean)
returns SETOF integer
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.all_accounts(p_with_timezone boolean) is 'The accounts that have a time zone; without p_with_timezone also those that have none, of ours and of the host.';

create function rollup.verification_steps(p_account_id integer, p_through date DEFAULT NULL::date)
returns TABLE(from_date date, to_date date, events bigint)
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.verification_steps(p_account_id integer, p_through date) is 'The days of an account that are not sealed, through p_through (NULL: all), in steps of a second or so for rollup.verify and rollup.seal. NULL bounds are open.';

-- sql/65_host_rollups.sql

create function rollup.require_host_rollups()
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.require_host_rollups() is 'Raises RU015 where public.reporting_events_rollups is not a table with the columns that the host gives it.';

create function rollup.host_rollups(p_account_id integer, p_from date, p_to date)
returns TABLE(date date, dimension_type text, dimension_id bigint, metric text, count bigint, sum_value double precision, sum_value_business_hours double precision)
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.host_rollups(p_account_id integer, p_from date, p_to date) is 'The rows of the host''s own rollup table, of dimensions and metrics that are ours too. Raises RU015 if it is none.';

create function rollup.compare_host_rollups(p_account_id integer, p_from date DEFAULT NULL::date, p_to date DEFAULT NULL::date)
returns TABLE(date date, dimension_type text, dimension_id bigint, metric text, host_count bigint, count bigint, host_sum_value double precision, sum_value numeric, host_sum_value_business_hours double precision, sum_value_business_hours numeric, reason text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off;
comment on function rollup.compare_host_rollups(p_account_id integer, p_from date, p_to date) is 'Where the host''s own rollup table, public.reporting_events_rollups, differs from ours: a row for each, with the reason as far as the raw events tell it; none where they agree. Of clean days, p_from to p_to (account-local, inclusive; NULL: the host''s first, its last), and of the dimensions and metrics that both have. Sums are seconds; they may differ by a microsecond an event. Errors: RU002 no zone, RU003 reversed or infinite dates, RU009 NULL, RU011 row level security, RU015 nothing to compare: no such table, no rows, no clean day. Example: select reason, count(*) from rollup.compare_host_rollups(1) group by 1;';

-- sql/66_nightly_verification.sql

create function rollup.verification_due(p_now timestamp with time zone DEFAULT now())
returns TABLE(account_id integer, today date)
language sql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.verification_due(p_now timestamp with time zone) is 'The accounts that are to be verified at p_now, and their local date: it is between 1 and 5 o''clock there, and they were not yet this night.';

create function rollup.nightly_ranges(p_account_id integer, p_today date, p_verified_from date)
returns TABLE(from_date date, to_date date)
language plpgsql stable
set search_path = pg_catalog, pg_temp;
comment on function rollup.nightly_ranges(p_account_id integer, p_today date, p_verified_from date) is 'The days to verify in a night: the last week, and of the older ones that are not sealed one piece in 29, from the newest back, so that each is seen within a month. p_verified_from: how far the last nights came. NULL bounds are open.';

create function rollup.verify_next(p_now timestamp with time zone DEFAULT clock_timestamp(), OUT account_id integer, OUT verified_from date, OUT differences bigint, OUT days integer)
returns record
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = 300ms;
comment on function rollup.verify_next(p_now timestamp with time zone, OUT account_id integer, OUT verified_from date, OUT differences bigint, OUT days integer) is 'Verifies the next account that is due at p_now (verification_due), of its clean days that are not sealed the last week and a piece of the older ones, and marks the days that differ, for the worker to rebuild. Returns the account, how far back it looked, how many differences and days; NULLs if none is due, or somebody else is verifying. Waits for nobody and blocks nobody. The worker calls it through the night, and sleeps as long as each call took: half a core at most. An account that cannot be verified is left for the next night, with a warning. Errors: RU004 not read committed, 55P03 a row locked. Example: select * from rollup.verify_next();';

CREATE TRIGGER reporting_events_rollup_delete AFTER DELETE ON public.reporting_events REFERENCING OLD TABLE AS events FOR EACH STATEMENT EXECUTE FUNCTION rollup.track_events();

CREATE TRIGGER reporting_events_rollup_insert AFTER INSERT ON public.reporting_events REFERENCING NEW TABLE AS events FOR EACH STATEMENT EXECUTE FUNCTION rollup.track_events();

CREATE TRIGGER reporting_events_rollup_timezone_delete AFTER DELETE ON public.accounts FOR EACH ROW WHEN (((to_jsonb(old.*) #>> '{settings,reporting_timezone}'::text[]) IS NOT NULL)) EXECUTE FUNCTION rollup.track_host_setting();

CREATE TRIGGER reporting_events_rollup_timezone_insert AFTER INSERT ON public.accounts FOR EACH ROW WHEN (((to_jsonb(new.*) #>> '{settings,reporting_timezone}'::text[]) IS NOT NULL)) EXECUTE FUNCTION rollup.track_host_setting();

CREATE TRIGGER reporting_events_rollup_timezone_update AFTER UPDATE ON public.accounts FOR EACH ROW WHEN (((to_jsonb(old.*) #>> '{settings,reporting_timezone}'::text[]) IS DISTINCT FROM (to_jsonb(new.*) #>> '{settings,reporting_timezone}'::text[]))) EXECUTE FUNCTION rollup.track_host_setting();

CREATE TRIGGER reporting_events_rollup_truncate AFTER TRUNCATE ON public.reporting_events FOR EACH STATEMENT EXECUTE FUNCTION rollup.track_truncate();

CREATE TRIGGER reporting_events_rollup_update AFTER UPDATE ON public.reporting_events REFERENCING OLD TABLE AS old_events NEW TABLE AS new_events FOR EACH STATEMENT EXECUTE FUNCTION rollup.track_events();
