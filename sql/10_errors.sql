-- Our SQLSTATEs, class RU, in one place. Every error has a message that names the input and a hint that says what to do.

create or replace function rollup.error_codes()
returns table (sqlstate text, condition text, raised_by text)
language sql immutable parallel safe
begin atomic
  values
    ('RU001', 'invalid time zone', 'set_reporting_timezone, reads'),
    ('RU002', 'account has no time zone', 'backfill_date, backfill, enqueue_backfill, verify, repair, compare_host_rollups'),
    ('RU003', 'invalid range of dates or timestamps', 'backfill_date, backfill, enqueue_backfill, verify, repair, compare_host_rollups, reads'),
    ('RU004', 'wrong isolation level', 'set_reporting_timezone, backfill_date, backfill, fold, repair'),
    ('RU005', 'a second account in one transaction', 'backfill_date, backfill, repair'),
    ('RU006', 'account is locked', 'backfill_date, backfill, repair'),
    ('RU007', 'unknown account', 'reads'),
    ('RU008', 'unknown name', 'set_write_mode, reads'),
    ('RU009', 'missing argument', 'all functions'),
    ('RU010', 'no such backfill run', 'cancel_backfill'),
    ('RU011', 'events cannot be read here: hidden by row level security, or on another node', 'backfill_date, backfill, enqueue_backfill, verify, repair, compare_host_rollups, reads'),
    ('RU012', 'days are sealed', 'set_reporting_timezone, backfill_date, backfill, enqueue_backfill'),
    ('RU013', 'days cannot be sealed or purged', 'seal, purge, set_retention'),
    ('RU014', 'raw events were purged', 'unseal, reads'),
    ('RU015', 'nothing to compare', 'compare_host_rollups'),
    ('RU016', 'settings of the host are no object', 'set_reporting_timezone'),
    ('RU017', 'not as Citus needs it', 'distribute');
end;
comment on function rollup.error_codes() is
  'The SQLSTATEs raised by the functions of this schema. Example: select * from rollup.error_codes();';

create or replace function rollup.require(p_function text, p_arguments jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_missing text;
begin
  select string_agg(key, ', ') into v_missing from jsonb_each(p_arguments) where value = 'null';
  if v_missing is not null then
    raise exception using
      errcode = 'RU009',
      message = format('rollup.%s needs a value for %s', p_function, v_missing),
      hint = 'Pass a value that is not NULL.';
  end if;
end
$$;
comment on function rollup.require(text, jsonb) is
  'Raises RU009 naming the function and those of its arguments that are NULL.';

create or replace function rollup.require_read_committed(p_function text)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'RU004',
      message = format('rollup.%s cannot run in a %s transaction', p_function, current_setting('transaction_isolation')),
      hint = 'Run it in a read committed transaction: it must see what others have committed meanwhile.';
  end if;
end
$$;
comment on function rollup.require_read_committed(text) is 'Raises RU004 in a repeatable read or serializable transaction.';

create or replace function rollup.require_days(p_function text, p_account_id int, p_from date, p_to date)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  perform rollup.require(p_function, jsonb_build_object('p_account_id', p_account_id));
  if not coalesce(isfinite(p_from), true) or not coalesce(isfinite(p_to), true) or p_from > p_to then
    raise exception using
      errcode = 'RU003',
      message = format(
        'rollup.%s: the range from %s to %s is %s', p_function, p_from, p_to, case when isfinite(p_from) and isfinite(p_to) then 'reversed' else 'not finite' end
      ),
      hint = case
        when isfinite(p_from) and isfinite(p_to) then 'Pass the earlier date first; both are inclusive.'
        else 'Pass NULL, or leave the argument out, for the beginning or the end of the history.'
      end;
  end if;
end
$$;
comment on function rollup.require_days(text, int, date, date) is
  'Raises RU009 without an account, RU003 for an infinite date or if the first comes after the second. NULL: open.';

create or replace function rollup.require_choice(p_function text, p_argument text, p_value text, p_choices text[])
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if p_value is null or p_value <> all (p_choices) then
    raise exception using
      errcode = case when p_value is null then 'RU009' else 'RU008' end,
      message = case
        when p_value is null then format('rollup.%s needs a value for %s', p_function, p_argument)
        else format('rollup.%s: %s cannot be "%s"', p_function, p_argument, p_value)
      end,
      hint = format('It is one of %s.', array_to_string(p_choices, ', '));
  end if;
end
$$;
comment on function rollup.require_choice(text, text, text, text[]) is
  'Raises RU008 for a value that is none of the choices, RU009 for NULL.';
