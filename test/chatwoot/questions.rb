# Random questions to the initializer (INITIALIZER) and to raw events, and what it does when something of ours fails: a document.
ZONES = { 1 => 'America/New_York', 2 => 'Asia/Kolkata', 3 => 'Europe/London' }.freeze
require_relative 'stand_in'

raw = ->(context) { Reports::RawDataSource.new(**context) }
load ENV.fetch('INITIALIZER')
Rails.application.config.prepare.call
ours = ->(context) { Reports::DataSource.for(**context) }
ReportingEvents::RollupService.perform(nil)

random = Random.new(Integer(ENV.fetch('SEED')))
pick = ->(list) { list[random.rand(list.size)] }
offset = ->(id) { ActiveSupport::TimeZone[ZONES[id] || 'UTC'].now.utc_offset / 3600.0 }

question = lambda do
  id = pick.([1, 2, 3, 4, 5])
  zone = ActiveSupport::TimeZone[ZONES[id] || 'UTC']
  since = zone.local(2026, 1 + random.rand(6), 1 + random.rand(28), *pick.([[0, 0], [0, 0], [13, 30]]))
  until_ = pick.([since + pick.([1, 7, 40, 150]).days, (since + pick.([1, 7, 40, 150]).days).end_of_day.change(usec: 0), since + random.rand(10_000_000)])
  dimension = pick.(%w[account account agent inbox])
  what = pick.(%i[timeseries timeseries aggregate summary])
  metric = pick.(Reports::METRICS.keys - ['conversations_count'])
  group_by = pick.(%w[day day week month year hour])
  since = [since, until_ - 3.days].max if group_by == 'hour'
  off = pick.([offset.(id)] * 5 + [offset.(id) + 2])
  context = {
    account: Account.new(id), metric: what == :summary ? nil : pick.([metric, metric.to_sym]), dimension_type: dimension,
    scope: Struct.new(:id).new(dimension == 'account' ? id : 1 + random.rand(3)), range: since.to_datetime...until_.to_datetime, group_by: group_by,
    timezone_offset: pick.([off, off.to_s]), business_hours: pick.([nil, true, false, 'true'])
  }
  # Accounts 4 and 5: no zone, the flag off.
  served = ZONES.key?(id) && (what == :summary || metric != 'bot_resolutions_count') &&
           (what != :timeseries || group_by != 'hour' && off == offset.(id))
  [what, context, served]
end

result = { asked: 0, served: 0, wrong: [] }
check = lambda do |label, what, context, served|
  expected, = answer(raw.(context), what)
  got, from_rollups = answer(ours.(context), what)
  result[:asked] += 1
  result[:served] += 1 if from_rollups
  next if alike?(seen(what, expected), seen(what, got)) && (served.nil? || from_rollups == served)

  result[:wrong] << "#{label} #{what} #{context} served #{from_rollups}, not #{served}: expected #{expected} got #{got}"[0, 3000]
end
Integer(ENV.fetch('QUESTIONS')).times { check.('any', *question.()) }

# Each harm within a transaction, which must stay usable; then it is undone.
page = lambda do |label, served|
  range = Time.utc(2026, 2, 1, 5).to_datetime...Time.utc(2026, 5, 1, 3, 59, 59).to_datetime
  context = { account: Account.new(1), range: range, timezone_offset: offset.(1), dimension_type: 'agent', scope: Struct.new(:id).new(1) }
  check.(label, :timeseries, { metric: 'avg_first_response_time', group_by: 'week', **context }, served)
  check.(label, :aggregate, { metric: 'bot_handoffs_count', **context }, served)
  check.(label, :summary, context, served)
end
connection = ActiveRecord::Base.connection
broken = %w[timeseries aggregate summary].map do |name|
  signature, returned = connection.select_rows("select oid::regprocedure, pg_get_function_result(oid) from pg_proc where proname = '#{name}' and pronamespace = 'rollup'::regnamespace")[0]
  "drop function #{signature}; create function #{signature} returns #{returned} language plpgsql as $$ begin raise 'broken'; end $$"
end
page.('as it is', true)
{
  'in a transaction' => ['select 1', true],
  'no schema' => ['drop schema rollup cascade', false],
  'functions that raise' => [broken.join(';'), nil],
  'functions of another shape' => ['drop function rollup.aggregate, rollup.timeseries, rollup.summary', nil],
  'the flag off' => ['select rollup.set_reporting_events_rollup(1, false)', false],
  'no zone' => ['select rollup.set_reporting_timezone(1, null)', false],
  'a role without privileges' => ["set local role #{ENV.fetch('STRANGER')}", false],
  'a role with the grants' => ["set local role #{ENV.fetch('READER')}", true]
}.each do |label, (harm, served)|
  connection.transaction do
    connection.execute(harm)
    page.(label, served)
    connection.execute('select 1')
    raise ActiveRecord::Rollback
  end
end
check.('an empty range', :aggregate, { account: Account.new(1), metric: 'reply_time', range: Time.utc(2026)...Time.utc(2026) }, false)
check.('a team', :summary, { account: Account.new(1), dimension_type: 'team', range: Time.utc(2026)...Time.utc(2027) }, false)
puts JSON.generate(result)
