-- Comparing what is kept with a recomputation from the raw events, as a rebuild does, but of clean days and with the pending deltas.

create or replace function rollup.verify(p_account_id int, p_from date default null, p_to date default null)
returns table (
  structure text, date date, dimension_type text, dimension_id bigint, metric text,
  expected_count bigint, actual_count bigint,
  expected_sum_value numeric, actual_sum_value numeric,
  expected_sum_value_business_hours numeric, actual_sum_value_business_hours numeric,
  expected_count_value bigint, actual_count_value bigint,
  expected_count_value_business_hours bigint, actual_count_value_business_hours bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
set enable_sort = off
set enable_seqscan = off
set max_parallel_workers_per_gather = 0
set work_mem = '64MB'
set hash_mem_multiplier = 8 as $$
declare
  v_timezone text;
  v_clean datemultirange;
  v_chunk record;
  v_previous_dates rollup.previous_dates[];
begin
  perform rollup.require_days('verify', p_account_id, p_from, p_to);
  perform rollup.require_timezone(p_account_id);
  perform rollup.require_here('verify', p_account_id);
  perform rollup.require_all_rows('verify');
  v_timezone := (select s.reporting_timezone from rollup.account_settings as s where s.account_id = p_account_id);
  v_clean := rollup.clean_days(p_account_id);
  for v_chunk in select * from rollup.memory_chunks(
    p_account_id, rollup.first_unsealed_day(p_account_id, coalesce(p_from, '-infinity')), coalesce(p_to, 'infinity')
  )
  loop
    v_previous_dates := array(
      select e from rollup.expected_previous_dates(p_account_id, v_chunk.from_date, v_chunk.to_date) as e
    );
    return query
      select
        'rollup', c.date, c.dimension_type, c.dimension_id, c.metric, (d.expected).count, (d.actual).count,
        (d.expected).sum_value, (d.actual).sum_value, (d.expected).sum_value_business_hours, (d.actual).sum_value_business_hours,
        (d.expected).count_value, (d.actual).count_value,
        (d.expected).count_value_business_hours, (d.actual).count_value_business_hours
      from (
        select t.* from rollup.total_differences(p_account_id, v_timezone, v_chunk.from_date, v_chunk.to_date, true) as t
        union all
        select t.* from rollup.distinct_total_differences(p_account_id, v_previous_dates, v_chunk.from_date, v_chunk.to_date) as t
      ) as d
      cross join lateral rollup.change_of(p_account_id, d.expected, d.actual) as c
      where v_clean @> c.date
      union all
      select
        'ledger', d.date, 'conversation', d.conversation_id, d.event_name::text, d.expected_count, d.actual_count, null, null, null, null,
        null, null, null, null
      from rollup.ledger_differences(p_account_id, v_timezone, v_chunk.from_date, v_chunk.to_date, true) as d
      where v_clean @> d.date
      union all
      select
        'previous_date', d.date, d.dimension_type, d.dimension_id, d.event_name::text, d.expected_count, d.actual_count, null, null, null, null,
        null, null, null, null
      from rollup.previous_date_differences(p_account_id, v_previous_dates, v_chunk.from_date, v_chunk.to_date) as d
      where v_clean @> d.date
      order by 1, 2, 3, 4, 5;
  end loop;
end
$$;
comment on function rollup.verify(int, date, date) is
  'Recomputes the clean days of an account that are not sealed from its raw events, in one snapshot, and returns a row for each difference to what is kept, '
  'pending deltas counted as applied; none when exact. p_from, p_to: account-local dates, inclusive, NULL: open. structure: rollup; '
  'ledger (dimension_id is the conversation) against the raw events; previous_date, and distinct counts, against the ledger. Sums are '
  'seconds; expected_count_value, …: how many events have the value. Errors: RU002 no zone, RU003 reversed or infinite dates, RU011 row '
  'level security, or on another node. Example: select * from rollup.verify(1);';

create or replace function rollup.record_verification(p_account_id int, p_differences bigint)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  update rollup.account_coverage as c
  set last_verified_at = now(), last_verification_differences = p_differences, last_verification_days = 0
  where c.account_id = p_account_id;
end
$$;
comment on function rollup.record_verification(int, bigint) is
  'Notes in account_status how many differences a verification of all clean days has found; the command line does so.';
