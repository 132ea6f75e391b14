-- How an account stands, for people.

select rollup.define_view('account_status', $view$
  select
    s.account_id,
    s.reporting_timezone,
    s.reporting_events_rollup,
    case when c.generation = s.generation then c.covered else '{}' end as covered,
    history.covered_share,
    marks.dirty_days,
    (select count(*) from rollup.deltas as d where d.account_id = s.account_id and d.generation = s.generation) as pending_deltas,
    (
      select r.id from rollup.backfill_runs as r
      where r.account_id = s.account_id and r.state in ('pending', 'running')
      order by r.state desc, r.id limit 1
    ) as running_backfill_id,
    c.sealed_through,
    c.last_verified_at,
    c.last_verification_differences
  from rollup.account_settings as s
  left join rollup.account_coverage as c on c.account_id = s.account_id
  cross join lateral (
    select count(distinct m.date) as dirty_days from rollup.dirty_marks as m where m.account_id = s.account_id
  ) as marks
  cross join lateral (
    select
      min(rollup.local_date(first.created_at, s.reporting_timezone)) as first_date,
      max(rollup.local_date(last.created_at, s.reporting_timezone)) as last_date
    from unnest(rollup.event_names()) as n (name)
    cross join lateral (
      select e.created_at from public.reporting_events as e
      where e.account_id = s.account_id and e.name = n.name order by e.created_at limit 1
    ) as first
    cross join lateral (
      select e.created_at from public.reporting_events as e
      where e.account_id = s.account_id and e.name = n.name order by e.created_at desc limit 1
    ) as last
  ) as span
  cross join lateral (
    select case
      when isfinite(span.first_date) and isfinite(span.last_date) then round(
        (
          select coalesce(sum(upper(clean.days) - lower(clean.days)), 0)
          from unnest(rollup.clean_days(s.account_id) * datemultirange(rollup.days(span.first_date, span.last_date))) as clean (days)
        )::numeric / (span.last_date - span.first_date + 1),
        4
      )
    end as covered_share
  ) as history
$view$);
comment on view rollup.account_status is
  'Settings, coverage and pending work of each account. covered_share: clean days as a share of those from its first to its last event; '
  'dirty_days: days that the trigger could not keep (an account-wide mark makes covered_share 0); running_backfill_id: of backfill_runs.';
