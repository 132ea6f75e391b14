-- The zone of an account: it decides the day of its events and is the switch of its rollups.

create or replace function rollup.timezone_obstacle(p_account_id int)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_through date := rollup.sealed_through(p_account_id);
begin
  return case when v_through is not null then format('the days of account %s through %s are sealed, so it keeps its time zone', p_account_id, v_through) end;
end
$$;
comment on function rollup.timezone_obstacle(int) is
  'Why the zone of an account cannot be changed or taken away, or NULL. Ask under lock_settings, in a statement of its own: a seal that has '
  'seen the zone holds that lock until it is there.';

create or replace function rollup.set_reporting_timezone(p_account_id int, p_timezone text)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_timezone text;
  v_generation bigint;
  v_settings rollup.account_settings;
begin
  perform rollup.require('set_reporting_timezone', jsonb_build_object('p_account_id', p_account_id));
  perform rollup.require_read_committed('set_reporting_timezone');
  if p_timezone is not null then
    v_timezone := rollup.find_timezone(p_timezone);
  end if;

  v_settings := rollup.lock_settings(p_account_id);
  if v_settings.reporting_timezone is not distinct from v_timezone then
    return v_settings;
  end if;
  if rollup.timezone_obstacle(p_account_id) is not null then
    raise exception using
      errcode = 'RU012',
      message = rollup.timezone_obstacle(p_account_id),
      hint = format('While their raw events are there, days can be unsealed: select rollup.unseal(%s);', p_account_id);
  end if;
  -- The row is locked: generations of an account only grow.
  v_generation := rollup.next_generation();
  update rollup.account_settings as s
  set reporting_timezone = v_timezone,
    generation = v_generation,
    updated_at = now()
  where s.account_id = p_account_id
  returning * into v_settings;
  -- A first zone has no older rows to clear: its rollups begin with the next event. (On conflict alone would wait for a rebuild.)
  insert into rollup.account_coverage (account_id, generation, host_relation, zone_rules)
  select p_account_id, v_generation, rollup.host_relation(), rollup.zone_rules(v_timezone)
  where not exists (select from rollup.account_coverage as c where c.account_id = p_account_id)
  on conflict (account_id) do nothing;

  if v_timezone is not null then
    perform rollup.enqueue_backfill(p_account_id);
  end if;
  return v_settings;
end
$$;
comment on function rollup.set_reporting_timezone(int, text) is
  'Sets the IANA time zone that decides the day of an account''s events, any case; NULL switches its rollups off. Returns the settings. '
  'A zone other than the present one makes the rollups start anew: reads use raw events until the backfill that it queues has run. '
  'Errors: RU001 not an IANA zone (the hint suggests names), RU004 not read committed, RU009 no account, RU012 the account has sealed days. '
  'Example: select rollup.set_reporting_timezone(1, ''America/New_York'');';
