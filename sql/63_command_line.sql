-- What the command line asks that nobody else needs to know.

create or replace function rollup.backfill_progress(p_run_id bigint)
returns table (
  id bigint, account_id int, from_date date, to_date date, state text,
  chunks_total int, chunks_done int, chunks_failed int,
  events bigint, events_total bigint, rows_written bigint, seconds numeric, error text
)
language sql volatile
set search_path = pg_catalog, pg_temp as $$
  select
    r.id, r.account_id, r.from_date, r.to_date, r.state, r.chunks_total, r.chunks_done, r.chunks_failed, r.events,
    (select coalesce(sum(c.events), 0)::bigint from rollup.backfill_chunks as c where c.account_id = r.account_id and c.run_id = r.id),
    r.rows_written,
    round(extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.started_at), 1),
    r.error
  from rollup.backfill_runs as r
  where r.id = p_run_id
$$;
comment on function rollup.backfill_progress(bigint) is
  'A run with the number of events it will have read at the end, as counted when it was planned, and the seconds it has taken so far.';

create or replace function rollup.backfill_outlook(p_account_id int, p_from date default null, p_to date default null)
returns table (
  account_id int, reporting_timezone text, first_event timestamp, last_event timestamp,
  from_date date, to_date date, days int, events bigint, chunks bigint, running_backfill_id bigint, running_covers boolean
)
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  perform rollup.require_days('backfill_outlook', p_account_id, p_from, p_to);
  perform rollup.require_known_account(p_account_id);
  perform rollup.require_timezone(p_account_id);
  return query
    select
      s.account_id, s.reporting_timezone, span.first_event, span.last_event, range.from_date, range.to_date,
      range.to_date - range.from_date + 1, plan.events, plan.chunks, running.id, running.covers
    from rollup.account_settings as s
    cross join lateral (
      select
        e.first_event at time zone 'UTC' at time zone s.reporting_timezone as first_event,
        e.last_event at time zone 'UTC' at time zone s.reporting_timezone as last_event
      from rollup.event_span(s.account_id) as e
    ) as span
    cross join lateral (
      select coalesce(p_from, least(span.first_event::date, p_to)) as from_date, coalesce(p_to, greatest(span.last_event::date, p_from)) as to_date
    ) as range
    cross join lateral (
      select sum(c.events)::bigint as events, count(*) as chunks
      from rollup.plan_chunks(s.account_id, coalesce(p_from, '-infinity'), coalesce(p_to, 'infinity'), rollup.chunk_events()) as c
    ) as plan
    left join lateral (
      select
        r.id,
        r.state = 'running' and r.generation = s.generation and r.from_date <= coalesce(p_from, '-infinity') and r.to_date >= coalesce(p_to, 'infinity') as covers
      from rollup.backfill_runs as r
      where r.account_id = s.account_id and r.state in ('pending', 'running')
      order by covers desc, r.id limit 1
    ) as running on true
    where s.account_id = p_account_id;
end
$$;
comment on function rollup.backfill_outlook(int, date, date) is
  'What a backfill of these days would do: the first and the last event in account time, the days and events, and the run of the account '
  'that is under way (running_covers: it already rebuilds all of these days). Errors: RU002 no zone, RU003 reversed or infinite dates, '
  'RU007 unknown account. Example: select * from rollup.backfill_outlook(1);';

create or replace function rollup.report_window(
  p_account_id int, p_since date default null, p_until date default null, p_days int default 30
)
returns table (
  timezone text, since date, until date, days int, starts timestamptz, ends timestamptz,
  previous_since date, previous_starts timestamptz
)
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp as $$
declare
  v_timezone text;
  v_until date;
  v_since date;
begin
  perform rollup.require_days('report_window', p_account_id, p_since, p_until);
  v_timezone := rollup.read_timezone(p_account_id, null);
  v_until := coalesce(p_until, greatest((now() at time zone v_timezone)::date, p_since) + 1);
  v_since := coalesce(p_since, v_until - p_days);
  perform rollup.require_days('report_window', p_account_id, v_since, v_until - 1);
  return query
    select
      v_timezone, v_since, v_until, v_until - v_since, rollup.day_begins(v_since, v_timezone), rollup.day_begins(v_until, v_timezone),
      v_since - (v_until - v_since), rollup.day_begins(v_since - (v_until - v_since), v_timezone);
end
$$;
comment on function rollup.report_window(int, date, date, int) is
  'The range of a report in account-local dates, p_until exclusive: by default the last p_days, today included; and the range of the '
  'same length before it. Errors: RU001 a zone that the server does not know, RU003 reversed or infinite dates, RU007 unknown account.';

create or replace function rollup.all_accounts(p_with_timezone boolean)
returns setof int
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  return query
    select s.account_id from rollup.account_settings as s where s.reporting_timezone is not null or not p_with_timezone order by 1;
  if not p_with_timezone and rollup.accounts_table() is not null then
    return query execute
      'select a.id::int from public.accounts as a
       where not exists (select from rollup.account_settings as s where s.account_id = a.id) order by 1';
  end if;
end
$$;
comment on function rollup.all_accounts(boolean) is
  'The accounts that have a time zone; without p_with_timezone also those that have none, of ours and of the host.';

create or replace function rollup.verification_steps(p_account_id int, p_through date default null)
returns table (from_date date, to_date date, events bigint)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select
    case when isfinite(c.from_date) then c.from_date end,
    case when isfinite(c.to_date) then c.to_date end,
    c.events
  from (
    select rollup.first_unsealed_day(p_account_id, '-infinity') as first_day, coalesce(p_through, 'infinity') as last_day
  ) as d
  cross join lateral rollup.plan_chunks(p_account_id, d.first_day, d.last_day, 4 * rollup.chunk_events()) as c
  where d.first_day <= d.last_day
  order by c.chunk
$$;
comment on function rollup.verification_steps(int, date) is
  'The days of an account that are not sealed, through p_through (NULL: all), in steps of a second or so for rollup.verify and rollup.seal. '
  'NULL bounds are open.';
