-- The host's own rollup table beside ours. Some hosts keep one, public.reporting_events_rollups: a row more per event in a transaction of
-- its own, nothing subtracted.

create or replace function rollup.require_host_rollups()
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_table oid := to_regclass('public.reporting_events_rollups');
  v_obstacle text;
begin
  -- Reading a table runs no code but what views, policies, virtual columns and types of its owner's have in them.
  v_obstacle := case
    when v_table is null then 'there is no such table'
    when (select c.relkind not in ('r', 'p') from pg_class as c where c.oid = v_table) then 'it is not a table'
    when row_security_active(v_table) then 'row level security hides rows of it'
    else (
      select format('it has no column %s of type %s', w.name, array_to_string(w.types, ' or '))
      from (
        values
          ('account_id', '{int4,int8}'::name[]), ('date', '{date}'), ('dimension_type', '{varchar,text}'), ('dimension_id', '{int8,int4}'),
          ('metric', '{varchar,text}'), ('count', '{int8,int4}'), ('sum_value', '{float8,numeric}'),
          ('sum_value_business_hours', '{float8,numeric}')
      ) as w (name, types)
      where not exists (
        select
        from pg_attribute as a
        join pg_type as t on t.oid = a.atttypid
        where a.attrelid = v_table and a.attname = w.name and not a.attisdropped and a.attgenerated <> 'v'
          and t.typnamespace = 'pg_catalog'::regnamespace and t.typname = any (w.types)
      )
      limit 1
    )
  end;
  if v_obstacle is not null then
    raise exception using
      errcode = 'RU015',
      message = format('the host has no rollups in public.reporting_events_rollups to compare with: %s', v_obstacle),
      hint = 'To compare with the raw events: select * from rollup.verify(…);';
  end if;
end
$$;
comment on function rollup.require_host_rollups() is
  'Raises RU015 where public.reporting_events_rollups is not a table with the columns that the host gives it.';

create or replace function rollup.host_rollups(p_account_id int, p_from date, p_to date)
returns table (
  date date, dimension_type text, dimension_id bigint, metric text,
  count bigint, sum_value double precision, sum_value_business_hours double precision
)
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  perform rollup.require_host_rollups();
  -- Dynamic, for nothing of ours depends on a table of the host's.
  return query execute $query$
    select
      r.date, r.dimension_type::text, r.dimension_id::bigint, r.metric::text, r.count::bigint,
      r.sum_value::double precision, r.sum_value_business_hours::double precision
    from public.reporting_events_rollups as r
    where r.account_id = $1 and r.date between $2 and $3 and r.dimension_type::text = any ($4) and r.metric::text = any ($5)
  $query$ using
    p_account_id, p_from, p_to, rollup.dimension_types(), array(select m.metric from rollup.event_metric_list() as m);
end
$$;
comment on function rollup.host_rollups(int, date, date) is
  'The rows of the host''s own rollup table, of dimensions and metrics that are ours too. Raises RU015 if it is none.';

create or replace function rollup.compare_host_rollups(p_account_id int, p_from date default null, p_to date default null)
returns table (
  date date, dimension_type text, dimension_id bigint, metric text, host_count bigint, count bigint,
  host_sum_value double precision, sum_value numeric,
  host_sum_value_business_hours double precision, sum_value_business_hours numeric, reason text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off as $$
declare
  v_timezone text;
  v_from date;
  v_to date;
  v_days datemultirange;
  v_purged daterange := (select c.purged from rollup.account_coverage as c where c.account_id = p_account_id);
begin
  perform rollup.require_days('compare_host_rollups', p_account_id, p_from, p_to);
  perform rollup.require_timezone(p_account_id);
  perform rollup.require_here('compare_host_rollups', p_account_id);
  perform rollup.require_all_rows('compare_host_rollups');
  v_timezone := (select s.reporting_timezone from rollup.account_settings as s where s.account_id = p_account_id);
  select min(h.date), max(h.date) into v_from, v_to
  from rollup.host_rollups(p_account_id, coalesce(p_from, '-infinity'), coalesce(p_to, 'infinity')) as h
  where isfinite(h.date);
  v_from := case when v_from is not null then coalesce(p_from, v_from) end;
  v_to := coalesce(p_to, v_to);
  v_days := rollup.clean_days(p_account_id) * datemultirange(daterange(v_from, v_to, '[]'));
  if v_from is null or v_days = '{}' then
    raise exception using
      errcode = 'RU015',
      message = case
        when v_from is null then format('public.reporting_events_rollups has no rows of account %s%s', p_account_id, case when p_from is not null or p_to is not null then ' on these days' end)
        else format('no day of account %s from %s to %s is covered by our rollups', p_account_id, v_from, v_to)
      end,
      hint = case
        when v_from is null then 'There is nothing to compare. To compare with the raw events: select * from rollup.verify(…);'
        else format('Rebuild them first: select rollup.backfill(%s);', p_account_id)
      end;
  end if;
  return query
    with host as materialized (
      select h.* from rollup.host_rollups(p_account_id, v_from, v_to) as h where v_days @> h.date
    ),
    difference as materialized (
      select
        k.*, h.count as host_count, o.count, h.sum_value as host_sum_value, o.sum_value,
        h.sum_value_business_hours as host_business_hours, o.sum_value_business_hours as business_hours
      from host as h
      full join (
        select r.* from rollup.daily_rollups as r where r.account_id = p_account_id and r.date between v_from and v_to and v_days @> r.date
      ) as o
        on o.date = h.date and o.dimension_type = h.dimension_type and o.dimension_id = h.dimension_id and o.metric = h.metric
      cross join lateral (
        select
          coalesce(h.date, o.date) as date, coalesce(h.dimension_type, o.dimension_type) as dimension_type,
          coalesce(h.dimension_id, o.dimension_id) as dimension_id, coalesce(h.metric, o.metric) as metric,
          -- Each value of ours is rounded to a microsecond, and doubles add up to a few digits less than they have.
          coalesce(o.count, 0) * 1e-6::double precision + abs(coalesce(o.sum_value, 0)) * 1e-9::double precision as tolerance
      ) as k
      where coalesce(h.count, 0) <> coalesce(o.count, 0)
        or abs(coalesce(h.sum_value, 0) - coalesce(o.sum_value, 0)) > k.tolerance
        or abs(coalesce(h.sum_value_business_hours, 0) - coalesce(o.sum_value_business_hours, 0)) > k.tolerance
    ),
    -- How many events there are of those that are counted by conversation.
    event as materialized (
      select e.date, dim.dimension_type, dim.dimension_id, m.metric, count(*) as count
      from rollup.day_events(p_account_id, rollup.distinct_event_names(), v_timezone, v_from, v_to) as e
      join rollup.event_metric_list() as m on m.event_name = e.name and m.payload = 'distinct'
      cross join lateral rollup.dimensions(p_account_id, e.user_id, e.inbox_id) as dim
      group by 1, 2, 3, 4
    )
    select
      d.date, d.dimension_type, d.dimension_id, d.metric, d.host_count, d.count, d.host_sum_value, d.sum_value, d.host_business_hours,
      d.business_hours,
      case
        when d.host_count is null and not exists (select from host as h where h.date = d.date) then 'the host has no row of this day'
        when d.host_count is null then 'the host has no such row: its write failed'
        when d.host_count > coalesce(d.count, 0) and v_purged @> d.date and exists (select from rollup.event_metric_list() as m where m.metric = d.metric and m.payload = 'distinct')
          then 'more than there are conversations: the events that would tell why were purged'
        when d.host_count > greatest(d.count, e.count, 0) then 'more than there are events: deleted ones were not subtracted'
        when d.host_count > coalesce(d.count, 0) then 'conversations are counted again with each of their events'
        when d.host_count < d.count then 'fewer than there are events: some were not counted'
        when d.host_sum_value + d.host_business_hours in ('NaN', 'Infinity', '-Infinity') then 'a value that is not finite was added up'
        else 'values were changed later'
      end
    from difference as d
    left join event as e
      on e.date = d.date and e.dimension_type = d.dimension_type and e.dimension_id = d.dimension_id and e.metric = d.metric
    order by 1, 2, 3, 4;
end
$$;
comment on function rollup.compare_host_rollups(int, date, date) is
  'Where the host''s own rollup table, public.reporting_events_rollups, differs from ours: a row for each, with the reason as far as the '
  'raw events tell it; none where they agree. Of clean days, p_from to p_to (account-local, inclusive; NULL: the host''s first, its last), '
  'and of the dimensions and metrics that both have. Sums are seconds; they may differ by a microsecond an event. Errors: RU002 no zone, '
  'RU003 reversed or infinite dates, RU009 NULL, RU011 row level security, RU015 nothing to compare: no such table, no rows, no clean day. '
  'Example: select reason, count(*) from rollup.compare_host_rollups(1) group by 1;';
