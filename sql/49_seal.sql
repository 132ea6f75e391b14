-- Sealing: from then on days are what they were, plus late inserts and updates, whatever becomes of their raw events. What that means for
-- everything that touches a day: 22_coverage and delta_counts.

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
  perform rollup.require_finite('seal', p_through, p_through);
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
