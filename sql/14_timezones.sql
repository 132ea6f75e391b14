-- Which names of time zones are valid. PostgreSQL itself accepts more: 'FOO-5' is a POSIX rule to it.

create or replace function rollup.is_place(p_name text)
returns boolean
language sql immutable parallel safe
return p_name !~ '^(posix/|right/|Factory$|localtime$|posixrules$)';
comment on function rollup.is_place(text) is 'Whether a file of the server''s time zone data is the zone of a place, rather than a variant or none.';

create or replace function rollup.timezones()
returns table (name text, utc_offset interval, is_dst boolean)
language sql stable
begin atomic
  select z.name, z.utc_offset, z.is_dst from pg_timezone_names as z where rollup.is_place(z.name);
end;
comment on function rollup.timezones() is
  'The zones an account can have, with the offset they have now. Slow (a tenth of a second): for people, not for events.';

create or replace function rollup.has_timezone(p_name text)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  perform now() at time zone p_name;
  return p_name is not null;
exception when invalid_parameter_value then
  return false;
end
$$;
comment on function rollup.has_timezone(text) is
  'Whether the server can reckon with a time zone: those of its files, and whatever else PostgreSQL takes for one. Fast.';

create or replace function rollup.listed_timezone(p_name text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- For it to be as it was afterwards.
set timezone = 'UTC' as $$
declare
  v_name text := btrim(p_name);
begin
  -- A rule has digits: what has none is a file, and PostgreSQL knows its spelling, without reading all of them.
  if v_name ~ '^[A-Za-z_/-]+$' then
    perform set_config('timezone', v_name, true);
    v_name := current_setting('timezone');
    return case when rollup.is_place(v_name) then v_name end;
  elsif exists (select from rollup.account_settings as s where s.reporting_timezone = v_name) and rollup.has_timezone(v_name) then
    return v_name;
  elsif v_name = '' or not rollup.has_timezone(v_name) then
    return null;
  end if;
  return (
    select z.name
    from rollup.timezones() as z
    where lower(z.name) = lower(v_name)
    order by z.name = v_name desc
    limit 1
  );
exception when invalid_parameter_value then
  return null;
end
$$;
comment on function rollup.listed_timezone(text) is
  'The listed spelling of an IANA zone given in any case; NULL for what is none. Fast, but for the first account with a zone like Etc/GMT+5.';

create or replace function rollup.rails_timezones()
returns table (name text, iana text)
language sql immutable parallel safe
begin atomic
  values
    ('International Date Line West', 'Etc/GMT+12'), ('Midway Island', 'Pacific/Midway'), ('American Samoa', 'Pacific/Pago_Pago'),
    ('Hawaii', 'Pacific/Honolulu'), ('Alaska', 'America/Juneau'), ('Pacific Time (US & Canada)', 'America/Los_Angeles'),
    ('Tijuana', 'America/Tijuana'), ('Mountain Time (US & Canada)', 'America/Denver'), ('Arizona', 'America/Phoenix'),
    ('Chihuahua', 'America/Chihuahua'), ('Mazatlan', 'America/Mazatlan'), ('Central Time (US & Canada)', 'America/Chicago'),
    ('Saskatchewan', 'America/Regina'), ('Guadalajara', 'America/Mexico_City'), ('Mexico City', 'America/Mexico_City'),
    ('Monterrey', 'America/Monterrey'), ('Central America', 'America/Guatemala'), ('Eastern Time (US & Canada)', 'America/New_York'),
    ('Indiana (East)', 'America/Indiana/Indianapolis'), ('Bogota', 'America/Bogota'), ('Lima', 'America/Lima'), ('Quito', 'America/Lima'),
    ('Atlantic Time (Canada)', 'America/Halifax'), ('Caracas', 'America/Caracas'), ('La Paz', 'America/La_Paz'),
    ('Santiago', 'America/Santiago'), ('Asuncion', 'America/Asuncion'), ('Newfoundland', 'America/St_Johns'),
    ('Brasilia', 'America/Sao_Paulo'), ('Buenos Aires', 'America/Argentina/Buenos_Aires'), ('Georgetown', 'America/Guyana'),
    ('Puerto Rico', 'America/Puerto_Rico'), ('Greenland', 'America/Nuuk'), ('Greenland', 'America/Godthab'), ('Montevideo', 'America/Montevideo'),
    ('Mid-Atlantic', 'Atlantic/South_Georgia'), ('Azores', 'Atlantic/Azores'), ('Cape Verde Is.', 'Atlantic/Cape_Verde'),
    ('Dublin', 'Europe/Dublin'), ('Edinburgh', 'Europe/London'), ('Lisbon', 'Europe/Lisbon'), ('London', 'Europe/London'),
    ('Casablanca', 'Africa/Casablanca'), ('Monrovia', 'Africa/Monrovia'), ('UTC', 'Etc/UTC'), ('Belgrade', 'Europe/Belgrade'),
    ('Bratislava', 'Europe/Bratislava'), ('Budapest', 'Europe/Budapest'), ('Ljubljana', 'Europe/Ljubljana'), ('Prague', 'Europe/Prague'),
    ('Sarajevo', 'Europe/Sarajevo'), ('Skopje', 'Europe/Skopje'), ('Warsaw', 'Europe/Warsaw'), ('Zagreb', 'Europe/Zagreb'),
    ('Brussels', 'Europe/Brussels'), ('Copenhagen', 'Europe/Copenhagen'), ('Madrid', 'Europe/Madrid'), ('Paris', 'Europe/Paris'),
    ('Amsterdam', 'Europe/Amsterdam'), ('Berlin', 'Europe/Berlin'), ('Bern', 'Europe/Zurich'), ('Zurich', 'Europe/Zurich'),
    ('Rome', 'Europe/Rome'), ('Stockholm', 'Europe/Stockholm'), ('Vienna', 'Europe/Vienna'), ('West Central Africa', 'Africa/Algiers'),
    ('Bucharest', 'Europe/Bucharest'), ('Cairo', 'Africa/Cairo'), ('Helsinki', 'Europe/Helsinki'), ('Kyiv', 'Europe/Kyiv'), ('Kyiv', 'Europe/Kiev'),
    ('Riga', 'Europe/Riga'), ('Sofia', 'Europe/Sofia'), ('Tallinn', 'Europe/Tallinn'), ('Vilnius', 'Europe/Vilnius'),
    ('Athens', 'Europe/Athens'), ('Istanbul', 'Europe/Istanbul'), ('Minsk', 'Europe/Minsk'), ('Jerusalem', 'Asia/Jerusalem'),
    ('Harare', 'Africa/Harare'), ('Pretoria', 'Africa/Johannesburg'), ('Kaliningrad', 'Europe/Kaliningrad'), ('Moscow', 'Europe/Moscow'),
    ('St. Petersburg', 'Europe/Moscow'), ('Volgograd', 'Europe/Volgograd'), ('Samara', 'Europe/Samara'), ('Kuwait', 'Asia/Kuwait'),
    ('Riyadh', 'Asia/Riyadh'), ('Nairobi', 'Africa/Nairobi'), ('Baghdad', 'Asia/Baghdad'), ('Tehran', 'Asia/Tehran'),
    ('Abu Dhabi', 'Asia/Muscat'), ('Muscat', 'Asia/Muscat'), ('Baku', 'Asia/Baku'), ('Tbilisi', 'Asia/Tbilisi'),
    ('Yerevan', 'Asia/Yerevan'), ('Kabul', 'Asia/Kabul'), ('Ekaterinburg', 'Asia/Yekaterinburg'), ('Islamabad', 'Asia/Karachi'),
    ('Karachi', 'Asia/Karachi'), ('Tashkent', 'Asia/Tashkent'), ('Chennai', 'Asia/Kolkata'), ('Kolkata', 'Asia/Kolkata'),
    ('Mumbai', 'Asia/Kolkata'), ('New Delhi', 'Asia/Kolkata'), ('Kathmandu', 'Asia/Kathmandu'), ('Dhaka', 'Asia/Dhaka'),
    ('Sri Jayawardenepura', 'Asia/Colombo'), ('Almaty', 'Asia/Almaty'), ('Astana', 'Asia/Almaty'), ('Novosibirsk', 'Asia/Novosibirsk'),
    ('Rangoon', 'Asia/Yangon'), ('Rangoon', 'Asia/Rangoon'), ('Bangkok', 'Asia/Bangkok'), ('Hanoi', 'Asia/Bangkok'), ('Jakarta', 'Asia/Jakarta'),
    ('Krasnoyarsk', 'Asia/Krasnoyarsk'), ('Beijing', 'Asia/Shanghai'), ('Chongqing', 'Asia/Chongqing'), ('Hong Kong', 'Asia/Hong_Kong'),
    ('Urumqi', 'Asia/Urumqi'), ('Kuala Lumpur', 'Asia/Kuala_Lumpur'), ('Singapore', 'Asia/Singapore'), ('Taipei', 'Asia/Taipei'),
    ('Perth', 'Australia/Perth'), ('Irkutsk', 'Asia/Irkutsk'), ('Ulaanbaatar', 'Asia/Ulaanbaatar'), ('Seoul', 'Asia/Seoul'),
    ('Osaka', 'Asia/Tokyo'), ('Sapporo', 'Asia/Tokyo'), ('Tokyo', 'Asia/Tokyo'), ('Yakutsk', 'Asia/Yakutsk'),
    ('Darwin', 'Australia/Darwin'), ('Adelaide', 'Australia/Adelaide'), ('Canberra', 'Australia/Canberra'),
    ('Melbourne', 'Australia/Melbourne'), ('Sydney', 'Australia/Sydney'), ('Brisbane', 'Australia/Brisbane'),
    ('Hobart', 'Australia/Hobart'), ('Vladivostok', 'Asia/Vladivostok'), ('Guam', 'Pacific/Guam'),
    ('Port Moresby', 'Pacific/Port_Moresby'), ('Magadan', 'Asia/Magadan'), ('Srednekolymsk', 'Asia/Srednekolymsk'),
    ('Solomon Is.', 'Pacific/Guadalcanal'), ('New Caledonia', 'Pacific/Noumea'), ('Fiji', 'Pacific/Fiji'),
    ('Kamchatka', 'Asia/Kamchatka'), ('Marshall Is.', 'Pacific/Majuro'), ('Auckland', 'Pacific/Auckland'),
    ('Wellington', 'Pacific/Auckland'), ('Nuku''alofa', 'Pacific/Tongatapu'), ('Tokelau Is.', 'Pacific/Fakaofo'),
    ('Chatham Is.', 'Pacific/Chatham'), ('Samoa', 'Pacific/Apia');
end;
comment on function rollup.rails_timezones() is
  'Names of time zones in Ruby on Rails (ActiveSupport::TimeZone) with their IANA names: hosts built on Rails store them.';

create or replace function rollup.known_timezone(p_name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  select coalesce(
    rollup.listed_timezone(p_name),
    (
      select z.name
      from rollup.rails_timezones() as r
      cross join lateral rollup.listed_timezone(r.iana) as z (name)
      where lower(r.name) = lower(btrim(p_name)) and z.name is not null
      limit 1
    )
  )
$$;
comment on function rollup.known_timezone(text) is
  'The IANA zone, as listed, that is meant by its own name or by its name in Rails, in any case; NULL: none is.';

create or replace function rollup.find_timezone(p_name text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
declare
  v_name text := rollup.known_timezone(p_name);
begin
  if v_name is null then
    raise exception using
      errcode = 'RU001',
      message = format('"%s" is not a time zone of the IANA database, nor one of Rails', p_name),
      hint = format('Did you mean %s? All names: select * from rollup.timezones();', rollup.similar_timezones(p_name));
  end if;
  return v_name;
end
$$;
comment on function rollup.find_timezone(text) is
  'The IANA zone, as listed, that is meant by its own name or by its name in Rails, in any case. Raises RU001 with the nearest names.';

create or replace function rollup.same_timezone(
  p_one text, p_other text, p_since timestamptz default '1970-01-01 00:00Z', p_until timestamptz default '2100-01-01 00:00Z'
)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  if p_one = p_other then
    return true;
  end if;
  -- A day at a time, and a minute at a time where clocks change: nobody wants centuries of that.
  return extract(epoch from p_until) - extract(epoch from p_since) < 200 * 31557600.0 and not exists (
    select
    from generate_series(p_since - interval '72 hours', p_until + interval '72 hours', interval '24 hours') as d (at)
    cross join lateral (
      select d.at
      union all
      select generate_series(d.at, d.at + interval '24 hours', interval '1 minute')
      where (d.at at time zone p_one) + interval '24 hours' <> (d.at + interval '24 hours') at time zone p_one
    ) as i (at)
    where i.at at time zone p_one <> i.at at time zone p_other
  );
end
$$;
comment on function rollup.same_timezone(text, text, timestamptz, timestamptz) is
  'Whether clocks show the same in two zones in [p_since, p_until), as in a zone and its alias; false for ranges of more than 200 years. '
  'Milliseconds for a year. Example: rollup.same_timezone(''Asia/Calcutta'', ''Asia/Kolkata'').';

create or replace function rollup.similar_timezones(p_name text)
returns text
language sql stable
set search_path = pg_catalog, pg_temp as $$
  with wanted as (
    select lower(regexp_replace(p_name, '[^[:alpha:]]', '', 'g')) as word
  ),
  candidate as (
    select z.name, lower(regexp_replace(part, '[^[:alpha:]]', '', 'g')) as word
    from rollup.timezones() as z
    cross join lateral (values (z.name), (regexp_replace(z.name, '^.*/', ''))) as p (part)
  )
  select string_agg(c.name, ', ' order by c.score desc, c.name)
  from (
    select c.name, max(2.0 * shared.count / greatest(length(w.word) + length(c.word) - 2, 1)) as score
    from candidate as c
    cross join wanted as w
    cross join lateral (
      select count(*) as count
      from generate_series(1, length(w.word) - 1) as i
      where position(substr(w.word, i, 2) in c.word) > 0
    ) as shared
    group by c.name
    order by score desc, c.name
    limit 3
  ) as c
$$;
comment on function rollup.similar_timezones(text) is
  'The three zones most like a misspelt name, by shared pairs of letters with the whole name or its last part.';

create or replace function rollup.zone_rules(p_timezone text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp as $$
begin
  return (
    with day as (
      select d.at, rollup.utc_offset(d.at, p_timezone) as utc_offset, rollup.utc_offset(d.at + interval '1 day', p_timezone) as next_offset
      from generate_series(timestamp '1970-01-01', timestamp '2040-01-01', interval '1 day') as d (at)
    )
    select md5(string_agg(format('%s %s', m.at, d.next_offset), ' ' order by d.at))
    from day as d
    cross join lateral (
      select min(i) as at
      from generate_series(d.at, d.at + interval '1 day', interval '15 minutes') as i
      where rollup.utc_offset(i, p_timezone) = d.next_offset
    ) as m
    where d.at = timestamp '1970-01-01' or d.utc_offset <> d.next_offset
  );
exception when invalid_parameter_value then
  return null;
end
$$;
comment on function rollup.zone_rules(text) is
  'A fingerprint of the clocks of a zone from 1970 to 2040; NULL for NULL and for a zone that the server does not know. Takes some 20 ms.';
