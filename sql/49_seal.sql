-- Sealing: from then on days are what they were, plus late inserts and updates, whatever becomes of their raw events. What that means for
-- everything that touches a day: 22_coverage and delta_counts. And purging, which lets go of raw events of sealed days.

create or replace function rollup.require_one_server(p_function text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if rollup.is_distributed() then
    raise exception using
      errcode = 'RU013',
      message = format('rollup.%s: days cannot be sealed where public.reporting_events is distributed', p_function),
      hint = 'Rollups do not move with a shard: they are made again from its raw events, which therefore must stay.';
  end if;
end
$$;
comment on function rollup.require_one_server(text) is 'Raises RU013 on a Citus cluster.';

create or replace function rollup.require_sealable(
  p_account_id int, p_through date, p_unclean datemultirange, p_differing date[], p_changed boolean
)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_timezone text := (select s.reporting_timezone from rollup.account_settings as s where s.account_id = p_account_id);
  v_today date := rollup.local_date(now() at time zone 'UTC', v_timezone);
  v_obstacle text := case
    when p_through < rollup.sealed_through(p_account_id) then format('they are sealed through %s already', rollup.sealed_through(p_account_id))
    when p_through >= v_today then format('%s is not over in %s', p_through, v_timezone)
    when p_changed then 'its time zone or the host''s table was changed meanwhile'
    when p_unclean <> '{}' then format('%s are not clean', p_unclean)
    when p_differing <> '{}' then format(
      'the rollups of %s differ from the raw events', array_to_string(p_differing[:5], ', ') || case when cardinality(p_differing) > 5 then ', …' else '' end
    )
  end;
begin
  if v_obstacle is not null then
    raise exception using
      errcode = 'RU013',
      message = format('the days of account %s through %s cannot be sealed: %s', p_account_id, p_through, v_obstacle),
      hint = case
        when p_through < rollup.sealed_through(p_account_id)
          then format('To move the seal back unseal first, while the raw events are there: select rollup.unseal(%s);', p_account_id)
        when p_through >= v_today then format('Seal through %s at most.', v_today - 1)
        when p_differing <> '{}' then format('See rollup.verify(%s); rebuild those days: select rollup.repair(%1$s);', p_account_id)
        else format('Rebuild the account first: select rollup.backfill(%s);', p_account_id)
      end;
  end if;
end
$$;
comment on function rollup.require_sealable(int, date, datemultirange, date[], boolean) is
  'Raises RU013, naming the reason, where the days of an account through p_through cannot be sealed.';

create or replace function rollup.seal(p_account_id int, p_through date)
returns date
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- See rollup.backfill.
set lock_timeout = '300ms' as $$
declare
  v_generation bigint;
  v_unclean datemultirange;
  v_differing date[];
begin
  perform rollup.limit_lock_waits();
  perform rollup.require('seal', jsonb_build_object('p_account_id', p_account_id, 'p_through', p_through));
  perform rollup.require_one_server('seal');
  perform rollup.require_days('seal', p_account_id, p_through, p_through);
  v_generation := rollup.begin_rebuild('seal', p_account_id);
  perform rollup.require_sealable(p_account_id, p_through, '{}', '{}', false);
  if p_through = rollup.sealed_through(p_account_id) then
    return p_through;
  end if;
  -- A delete is subtracted if the last round sees its deltas, all of them or none: what comes later finds the days sealed.
  loop
    exit when rollup.fold_account(p_account_id) < rollup.fold_size();
  end loop;
  -- One snapshot: a day that is dirty is not compared.
  select
    datemultirange(rollup.days('-infinity', p_through)) - rollup.clean_days(p_account_id),
    array(select distinct v.date from rollup.verify(p_account_id, rollup.first_unsealed_day(p_account_id, null), p_through) as v order by 1)
  into v_unclean, v_differing;
  -- Whoever changes the zone waits here, and then sees the seal.
  perform rollup.lock_settings(p_account_id);
  perform rollup.require_sealable(
    p_account_id, p_through, v_unclean, v_differing,
    (select s.generation <> v_generation from rollup.account_settings as s where s.account_id = p_account_id)
  );
  update rollup.account_coverage as c set sealed_through = p_through where c.account_id = p_account_id;
  return p_through;
end
$$;
comment on function rollup.seal(int, date) is
  'Seals the days of an account up to p_through (account-local, inclusive) and returns it. They must be over, clean, and equal to the raw '
  'events: pending deltas are folded and the days compared first, at the cost of rollup.verify. From then on they change by inserts and updates only: '
  'deletes of raw events do not subtract from them, nothing rebuilds them, and the account keeps its zone. A delete under way is '
  'subtracted as a whole or not at all. Sealing again further on goes on from there. Errors: RU013 not clean, differing, not over, or '
  'moving back; else as in rollup.backfill. Example: select rollup.seal(1, ''2025-12-31'');';

create or replace function rollup.unseal(p_account_id int)
returns date
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms' as $$
declare
  v_through date;
begin
  perform rollup.limit_lock_waits();
  perform rollup.require('unseal', jsonb_build_object('p_account_id', p_account_id));
  perform rollup.begin_rebuild('unseal', p_account_id);
  v_through := rollup.sealed_through(p_account_id);
  if exists (select from rollup.account_coverage as c where c.account_id = p_account_id and c.purged is not null) then
    raise exception using
      errcode = 'RU014',
      message = format('the days of account %s cannot be unsealed: raw events of them were purged', p_account_id),
      hint = 'Their totals are all that is left of them. Days after the sealed ones are as they were.';
  end if;
  if v_through is not null then
    -- Deletes may have gone by.
    update rollup.account_coverage as c
    set sealed_through = null, covered = c.covered - rollup.sealed_days(p_account_id)
    where c.account_id = p_account_id;
    perform rollup.enqueue_backfill(p_account_id, null, v_through);
  end if;
  return v_through;
end
$$;
comment on function rollup.unseal(int) is
  'Takes the seal from the days of an account and returns the last of them, NULL if none was sealed. They follow their raw events again: they are '
  'read from these until the backfill that it queues has run. Errors: RU014 raw events were purged; else as in '
  'rollup.backfill. Example: select rollup.unseal(1);';

-- Purging ------------------------------------------------------------------------------------------------------------

create or replace function rollup.queue_purge(p_account_id int)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  -- Without the worker's schema it waits; workers queue what has no job.
  if to_regnamespace('rollup_worker') is not null then
    perform rollup_worker.add_job('purge', json_build_object('account_id', p_account_id), job_key => format('purge %s', p_account_id));
  end if;
end
$$;
comment on function rollup.queue_purge(int) is 'Gives a purge its job.';

create or replace function rollup.purge(p_account_id int, p_before date)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms' as $$
declare
  v_through date;
  v_first date;
begin
  perform rollup.limit_lock_waits();
  perform rollup.require('purge', jsonb_build_object('p_account_id', p_account_id, 'p_before', p_before));
  perform rollup.require_days('purge', p_account_id, p_before, p_before);
  perform rollup.begin_rebuild('purge', p_account_id);
  v_through := rollup.sealed_through(p_account_id);
  if v_through is null or p_before > v_through + 1 then
    raise exception using
      errcode = 'RU013',
      message = format(
        'the raw events of account %s before %s cannot be purged: %s', p_account_id, p_before,
        coalesce(format('only the days through %s are sealed', v_through), 'no day is sealed')
      ),
      hint = format('Seal the days first: select rollup.seal(%s, %L);', p_account_id, p_before - 1);
  end if;
  v_first := (
    select min(r.date) from rollup.reporting_events_rollups as r where r.account_id = p_account_id and r.date < p_before and isfinite(r.date)
  );
  if v_first is not null then
    update rollup.account_coverage as c
    set purged = range_merge(coalesce(c.purged, 'empty'), daterange(v_first, p_before)), purge_next = v_first
    where c.account_id = p_account_id;
    perform rollup.queue_purge(p_account_id);
  end if;
  return (select c.purged_events from rollup.account_coverage as c where c.account_id = p_account_id);
end
$$;
comment on function rollup.purge(int, date) is
  'Has the worker delete the raw events of an account before an account-local date, day by day, those that count towards a metric; returns how many have been '
  'deleted so far. All of these days must be sealed. Totals, distinct counts over any range and reports of whole days stay; from this '
  'call on reads that would need those raw events are an error, and the days cannot be unsealed. Progress: account_status. Errors: RU013 days are not '
  'sealed; else as in rollup.backfill. Example: select rollup.purge(1, ''2025-01-01'');';

create or replace function rollup.continue_purge(p_account_id int, out day date, out events bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms' as $$
declare
  v_timezone text;
begin
  perform rollup.limit_lock_waits();
  perform rollup.begin_rebuild('continue_purge', p_account_id, '1 s');
  v_timezone := (select s.reporting_timezone from rollup.account_settings as s where s.account_id = p_account_id);
  -- The next day that has events: looking from where the last one ended, past what was deleted.
  day := (
    select min(rollup.local_date(first.created_at, v_timezone))
    from rollup.account_coverage as c
    cross join unnest(rollup.event_names()) as n (name)
    cross join lateral (
      select e.created_at
      from public.reporting_events as e
      where e.account_id = p_account_id and e.name = n.name
        and e.created_at >= rollup.utc_midnight(c.purge_next, -1)
        and e.created_at <= rollup.utc_midnight(upper(c.purged), 1)
        and rollup.local_date(e.created_at, v_timezone) >= c.purge_next
        and rollup.local_date(e.created_at, v_timezone) < upper(c.purged)
      order by e.created_at
      limit 1
    ) as first
    where c.account_id = p_account_id
  );
  delete from public.reporting_events as e
  where e.account_id = p_account_id and e.name = any (rollup.event_names())
    and e.created_at >= rollup.utc_midnight(day, -1) and e.created_at <= rollup.utc_midnight(day, 2)
    and rollup.local_date(e.created_at, v_timezone) = day;
  get diagnostics events = row_count;
  update rollup.account_coverage as c
  set purge_next = day + 1, purged_events = c.purged_events + events
  where c.account_id = p_account_id;
end
$$;
comment on function rollup.continue_purge(int) is
  'One step of a purge, for the job of the worker that repeats it, in a transaction of its own: deletes the raw events of the next day. day: which; NULL: none is '
  'left. The trigger''s deltas of these deletes do not count: the days are sealed. Waits for no lock of the host''s longer than lock_wait(). Errors as in rollup.backfill.';

create or replace function rollup.requeue_purges()
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp as $$
  select count(rollup.queue_purge(c.account_id))
  from rollup.account_coverage as c
  where c.purge_next is not null and not exists (
    select from rollup_worker.jobs as j where j.key = format('purge %s', c.account_id) and j.attempts < j.max_attempts
  )
$$;
comment on function rollup.requeue_purges() is 'Gives a job to all purges that have none, for when the queue was lost; returns how many.';

-- Retention ----------------------------------------------------------------------------------------------------------

create or replace function rollup.set_retention(p_account_id int, p_months int)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_settings rollup.account_settings;
begin
  perform rollup.require('set_retention', jsonb_build_object('p_account_id', p_account_id));
  perform rollup.require_one_server('set_retention');
  if p_months < 1 then
    raise exception using
      errcode = 'RU003',
      message = format('rollup.set_retention: raw events cannot be kept for %s months', p_months),
      hint = 'Pass 1 or more whole months, or NULL to keep all.';
  end if;
  perform rollup.lock_settings(p_account_id);
  update rollup.account_settings as s
  set retention_months = p_months, updated_at = now()
  where s.account_id = p_account_id
  returning * into v_settings;
  return v_settings;
end
$$;
comment on function rollup.set_retention(int, int) is
  'For how many whole calendar months before the present one the raw events of an account are kept; NULL, as at first: all are. The worker seals and '
  'purges what is older as months go by. Returns the settings. Errors: RU003 less than 1, RU009 no account, RU013 on Citus. '
  'Example: select rollup.set_retention(1, 13);';

create or replace function rollup.retention_due(p_now timestamptz default now())
returns table (account_id int, before date)
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select s.account_id, d.before
  from rollup.account_settings as s
  join rollup.account_coverage as c on c.account_id = s.account_id
  cross join lateral (
    select case
      when rollup.has_timezone(s.reporting_timezone) then (
        date_trunc('month', rollup.local_date(p_now at time zone 'UTC', s.reporting_timezone)::timestamp)
        - make_interval(months => s.retention_months)
      )::date
    end as before
  ) as d
  where s.retention_months is not null
    and d.before > coalesce(upper(c.purged), '-infinity')
    and exists (select from rollup.reporting_events_rollups as r where r.account_id = s.account_id and r.date < d.before and isfinite(r.date))
$$;
comment on function rollup.retention_due(timestamptz) is
  'The accounts whose raw events are to be sealed and purged by their retention, and before which day.';

create or replace function rollup.apply_retention(p_account_id int, p_now timestamptz default now())
returns date
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_before date := (select d.before from rollup.retention_due(p_now) as d where d.account_id = p_account_id);
begin
  if v_before is not null then
    if rollup.first_unsealed_day(p_account_id, v_before) = v_before then
      perform rollup.seal(p_account_id, v_before - 1);
    end if;
    perform rollup.purge(p_account_id, v_before);
  end if;
  return v_before;
end
$$;
comment on function rollup.apply_retention(int, timestamptz) is
  'Seals and purges the raw events of an account that its retention lets go; returns the day before which, NULL if none is due. The worker '
  'does so once an hour. Errors as in rollup.seal and rollup.purge. Example: select rollup.apply_retention(1);';
