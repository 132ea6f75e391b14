-- What people decide for an account: whether reads may use rollups, how writers keep them. (Its zone: 44_reporting_timezone.)

create or replace function rollup.writer_settings(p_account_id bigint)
returns table (account_id int, generation bigint, timezone text, inline boolean)
language sql stable parallel safe as $$
  select s.account_id, s.generation, s.reporting_timezone, s.write_mode = 'inline'
  from rollup.account_settings as s
  where s.account_id = p_account_id and s.reporting_timezone is not null
  -- Not to be pulled up: planned as a join while the table is small, it would read all settings for each event.
  offset 0
$$;
comment on function rollup.writer_settings(bigint) is
  'What the trigger needs to know of an account; no row for one without a zone.';

create or replace function rollup.require_timezone(p_account_id int)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from rollup.account_settings as s where s.account_id = p_account_id and s.reporting_timezone is not null
  ) then
    raise exception using
      errcode = 'RU002',
      message = format('account %s has no reporting time zone', p_account_id),
      hint = format('Set one first: select rollup.set_reporting_timezone(%s, ''America/New_York'');', p_account_id);
  end if;
end
$$;
comment on function rollup.require_timezone(int) is 'Raises RU002 for an account without a reporting time zone.';

create or replace function rollup.lock_settings(p_account_id int)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
declare
  v_settings rollup.account_settings;
begin
  -- Again where the row of a deleted account was removed meanwhile.
  loop
    insert into rollup.account_settings (account_id)
    select p_account_id
    where not exists (select from rollup.account_settings as s where s.account_id = p_account_id)
    on conflict (account_id) do nothing;
    select * into v_settings from rollup.account_settings as s where s.account_id = p_account_id for no key update;
    exit when found;
  end loop;
  return v_settings;
end
$$;
comment on function rollup.lock_settings(int) is 'The settings row of an account, created if missing, locked.';

create or replace function rollup.next_generation(p_generation bigint)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
begin
  perform set_config('rollup.changes_settings', 'x', true);
  return p_generation + 1;
end
$$;
comment on function rollup.next_generation(bigint) is
  'The generation after that of an account whose settings row is locked, and notes that this transaction changes it: until it has ended '
  'nobody else sees that. Not from a sequence: lastval() is the host''s, in whose transaction this may run.';

create or replace function rollup.set_reporting_events_rollup(p_account_id int, p_enabled boolean)
returns rollup.account_settings
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
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
language plpgsql volatile
set search_path = pg_catalog, pg_temp as $$
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
