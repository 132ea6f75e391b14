-- What people decide for an account: its zone, whether reads may use rollups, how writers keep them.

create or replace function rollup.set_reporting_timezone(p_account_id int, p_timezone text)
returns rollup.account_settings
language plpgsql volatile as $$
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
  -- The row is locked: generations of an account only grow.
  v_generation := nextval('rollup.generations');
  update rollup.account_settings as s
  set reporting_timezone = v_timezone,
    generation = v_generation,
    updated_at = now()
  where s.account_id = p_account_id
  returning * into v_settings;
  -- A first zone has no older rows to clear: its rollups begin with the next event. (On conflict alone would wait for a rebuild.)
  insert into rollup.account_coverage (account_id, generation)
  select p_account_id, v_generation
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
  'Errors: RU001 not an IANA zone (the hint suggests names), RU004 not read committed, RU009 no account. '
  'Example: select rollup.set_reporting_timezone(1, ''America/New_York'');';

create or replace function rollup.set_reporting_events_rollup(p_account_id int, p_enabled boolean)
returns rollup.account_settings
language plpgsql volatile as $$
declare
  v_settings rollup.account_settings;
begin
  perform rollup.require(
    'set_reporting_events_rollup', jsonb_build_object('p_account_id', p_account_id, 'p_enabled', p_enabled)
  );
  perform rollup.lock_settings(p_account_id);
  update rollup.account_settings as s
  set reporting_events_rollup = p_enabled, updated_at = now()
  where s.account_id = p_account_id
  returning * into v_settings;
  return v_settings;
end
$$;
comment on function rollup.set_reporting_events_rollup(int, boolean) is
  'Says whether reads of an account may use rollups (off by default); writes happen regardless. Returns the settings. '
  'Errors: RU009 for NULL. Example: select rollup.set_reporting_events_rollup(1, true);';

create or replace function rollup.set_write_mode(p_account_id int, p_mode text)
returns rollup.account_settings
language plpgsql volatile as $$
declare
  v_settings rollup.account_settings;
begin
  perform rollup.require('set_write_mode', jsonb_build_object('p_account_id', p_account_id, 'p_mode', p_mode));
  if p_mode not in ('inline', 'append') then
    raise exception using
      errcode = 'RU008',
      message = format('unknown write mode "%s"', p_mode),
      hint = 'It is inline (the trigger updates the rollups) or append (it leaves them to fold(), which is cheaper for writers).';
  end if;
  perform rollup.lock_settings(p_account_id);
  update rollup.account_settings as s
  set write_mode = p_mode, updated_at = now()
  where s.account_id = p_account_id
  returning * into v_settings;
  return v_settings;
end
$$;
comment on function rollup.set_write_mode(int, text) is
  'inline: the trigger updates the rollups of an account itself when nobody else is at them and the statement has no more than 10,000 '
  'events. append: it always leaves deltas, at half the cost, and the rows follow within seconds by fold(); reads are exact either way. '
  'Returns the settings. '
  'Errors: RU008 another mode, RU009 NULL. Example: select rollup.set_write_mode(1, ''append'');';

create or replace function rollup.lock_settings(p_account_id int)
returns rollup.account_settings
language plpgsql volatile as $$
declare
  v_settings rollup.account_settings;
begin
  insert into rollup.account_settings (account_id)
  select p_account_id
  where not exists (select from rollup.account_settings as s where s.account_id = p_account_id)
  on conflict (account_id) do nothing;
  select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id for no key update;
  return v_settings;
end
$$;
comment on function rollup.lock_settings(int) is 'The settings row of an account, created if missing, locked.';
