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

create or replace function rollup.delta_counts(p_delta rollup.deltas, p_generation bigint, p_sealed_through date)
returns boolean
language sql immutable parallel safe
return case
  when p_delta.date <= p_sealed_through then not p_delta.from_delete
  else p_delta.generation = p_generation
end;
comment on function rollup.delta_counts(rollup.deltas, bigint, date) is
  'Whether a delta changes its day, asked whenever one is applied, folded or read: on sealed days those of deletes do not, whenever they '
  'were made; on others those of an old zone do not. (The zone of sealed days is not changed, so theirs are of any generation.)';

create or replace function rollup.pending_deltas(p_account_id int)
returns setof rollup.deltas
language sql stable parallel safe as $$
  select d.*
  from rollup.deltas as d
  where d.account_id = p_account_id
    -- Looked up once, not for each delta.
    and rollup.delta_counts(
      d,
      (select s.generation from rollup.account_settings as s where s.account_id = p_account_id and s.reporting_timezone is not null),
      (select c.sealed_through from rollup.account_coverage as c where c.account_id = p_account_id)
    )
$$;
comment on function rollup.pending_deltas(int) is
  'The deltas of an account that are not applied yet and count. Functions that read pending deltas read these; views ask delta_counts '
  'themselves, for they call only functions that are parsed once and for all.';

create or replace function rollup.event_delta(
  p_account_id int, p_generation bigint, p_date date, p_event_name text, p_user_id bigint, p_inbox_id bigint, p_conversation_id bigint,
  p_value bigint, p_value_in_business_hours bigint, p_sign int
)
returns rollup.deltas
language sql immutable as $$
  select (
    p_account_id, p_generation, p_date, p_event_name, p_user_id, p_inbox_id, p_conversation_id,
    p_sign, rollup.seconds(p_sign * p_value), rollup.seconds(p_sign * p_value_in_business_hours), p_sign < 0,
    case when p_value is null then 0 else p_sign end, case when p_value_in_business_hours is null then 0 else p_sign end
  )::rollup.deltas
$$;
comment on function rollup.event_delta(int, bigint, date, text, bigint, bigint, bigint, bigint, bigint, int) is 'The delta of one event that was inserted (p_sign 1) or deleted (-1); values in microseconds, NULL if there is none.';
