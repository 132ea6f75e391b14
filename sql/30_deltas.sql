-- Deltas: signed counts and sums of events of an account, by day, event name, agent and inbox, and by conversation where that is
-- remembered. All changes of rollups travel as deltas, each right by itself.

create or replace function rollup.microseconds(p_seconds double precision)
returns bigint
language sql immutable parallel safe
return case when abs(p_seconds) < 9.2e12::double precision then (p_seconds * 1e6::double precision)::bigint end;
comment on function rollup.microseconds(double precision) is
  'The value of an event in whole microseconds, which add up exactly in any order; NULL, as if there were none, for NaN, infinities and '
  'what does not fit.';

create or replace function rollup.seconds(p_microseconds numeric)
returns numeric
language sql immutable parallel safe
return trim_scale(coalesce(p_microseconds, 0) * 0.000001);
comment on function rollup.seconds(numeric) is 'Microseconds as seconds, without trailing zeros; 0 for NULL.';

create or replace function rollup.pending_deltas(p_account_id int)
returns setof rollup.deltas
language sql stable parallel safe as $$
  select d.*
  from rollup.account_settings as s
  join rollup.deltas as d on d.account_id = s.account_id and d.generation = s.generation
  where s.account_id = p_account_id and s.reporting_timezone is not null
$$;
comment on function rollup.pending_deltas(int) is 'The deltas of an account that are not applied yet; those of an old zone are none.';
