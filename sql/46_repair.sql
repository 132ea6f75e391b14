-- Rebuilding what verification finds, and the days that the trigger could not keep.

create or replace function rollup.repair(p_account_id int, p_from date default null, p_to date default null)
returns setof date
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- See rollup.backfill.
set lock_timeout = '300ms' as $$
declare
  v_dates date[];
begin
  perform rollup.limit_lock_waits();
  perform rollup.require_days('repair', p_account_id, p_from, p_to);
  -- The account's lock comes before the first look at the events: see lock_account.
  perform rollup.begin_rebuild('repair', p_account_id);
  if p_from is null and p_to is null and exists (
    select from rollup.repairable_marks() as m where m.account_id = p_account_id and (m.date is null or not isfinite(m.date))
  ) then
    v_dates := array(select distinct r.date from rollup.reporting_events_rollups as r where r.account_id = p_account_id);
    perform rollup.backfill(p_account_id);
    return query
      select d from unnest(v_dates) as d
      union
      select r.date from rollup.reporting_events_rollups as r where r.account_id = p_account_id
      order by 1;
    return;
  end if;
  v_dates := array(
    select v.date from rollup.verify(p_account_id, p_from, p_to) as v
    union
    select m.date
    from rollup.repairable_marks() as m
    where m.account_id = p_account_id
      and m.date between coalesce(p_from, '-infinity') and coalesce(p_to, 'infinity')
      and isfinite(m.date)
    order by 1
  );
  if '{-infinity,infinity}' && v_dates then
    perform rollup.backfill(p_account_id);
  else
    perform rollup.backfill(p_account_id, lower(r.days), upper(r.days) - 1)
    from unnest((select range_agg(daterange(d, d, '[]')) from unnest(v_dates) as d)) as r (days);
  end if;
  return query select d from unnest(v_dates) as d;
end
$$;
comment on function rollup.repair(int, date, date) is
  'Rebuilds the days of an account that differ from the raw events or are dirty, in one transaction, and returns them; all days if the '
  'account as a whole is dirty and no range is given. Sealed days are left as they are. Writers leave deltas meanwhile. Errors as in rollup.backfill, whether or not '
  'something differs. Example: select rollup.repair(1);';
