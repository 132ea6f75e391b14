# What the initializer of docs/chatwoot.md needs of the host: its data sources, with plain SQL for raw events, and so much of Rails.
require 'active_record'
require 'active_support/all'
require 'json'

Time.zone = 'UTC'
ActiveRecord::Base.establish_connection(ENV.fetch('DATABASE_URL'))

module Rails
  Config = Struct.new(:prepare) { def to_prepare(&block) = (self.prepare = block) }
  Application = Struct.new(:config)
  def self.application = @application ||= Application.new(Config.new)
  def self.logger = @logger ||= Logger.new(File.open(File::NULL, 'w'))
end

class ReportingEvent < ActiveRecord::Base; end
Account = Struct.new(:id)

module ReportingEvents
  class RollupService
    def self.perform(_event) = raise('the writer of the host ran')
  end
end

module Reports
  Metric = Struct.new(:aggregate, :raw_event_name, :rollup_metric, :summary_key, :raw_count_strategy, keyword_init: true) do
    def count? = aggregate == :count
  end
  METRICS = {
    'conversations_count' => Metric.new(aggregate: :count),
    'avg_first_response_time' =>
      Metric.new(aggregate: :average, raw_event_name: 'first_response', rollup_metric: :first_response, summary_key: :avg_first_response_time),
    'avg_resolution_time' =>
      Metric.new(aggregate: :average, raw_event_name: 'conversation_resolved', rollup_metric: :resolution_time, summary_key: :avg_resolution_time),
    'reply_time' => Metric.new(aggregate: :average, raw_event_name: 'reply_time', rollup_metric: :reply_time, summary_key: :avg_reply_time),
    'resolutions_count' =>
      Metric.new(aggregate: :count, raw_event_name: 'conversation_resolved', rollup_metric: :resolutions_count,
                 summary_key: :resolved_conversations_count),
    'bot_resolutions_count' =>
      Metric.new(aggregate: :count, raw_event_name: 'conversation_bot_resolved', rollup_metric: :bot_resolutions_count,
                 raw_count_strategy: :exclude_bot_handoffs),
    'bot_handoffs_count' =>
      Metric.new(aggregate: :count, raw_event_name: 'conversation_bot_handoff', rollup_metric: :bot_handoffs_count,
                 raw_count_strategy: :distinct_conversation)
  }.freeze

  class DataSource
    def self.for(**context) = RawDataSource.new(**context)

    attr_reader :account, :metric, :dimension_type, :scope, :range, :group_by, :timezone_offset

    def initialize(account:, metric: nil, dimension_type: 'account', scope: nil, range: nil, group_by: 'day', timezone_offset: nil,
                   business_hours: nil)
      @account, @metric, @dimension_type, @scope, @range, @group_by, @timezone_offset, @business_hours =
        account, metric, dimension_type, scope, range, group_by, timezone_offset, business_hours
    end

    private

    def report_metric = METRICS[metric.to_s]
    def count_metric? = report_metric.count?
    def rollup_metric = report_metric&.rollup_metric
    def raw_count_strategy = report_metric&.raw_count_strategy
    def summary_metrics = METRICS.values.select(&:summary_key)
    def use_business_hours? = ActiveModel::Type::Boolean.new.cast(@business_hours)
  end

  # Days are those of the zone that the account is asked in, or would be.
  class RawDataSource < DataSource
    COLUMNS = { 'account' => 'account_id', 'agent' => 'user_id', 'inbox' => 'inbox_id', 'team' => 'conversation_id % 3' }.freeze

    def timeseries
      select(<<~SQL).map { |row| { value: row['value'], timestamp: row['at'], count: row['count'] }.tap { |it| it.delete(:count) if count_metric? } }
        with event as (select #{period('created_at')} as period, * from (#{events}) as e)
        select extract(epoch from p.period at time zone #{zone})::bigint as at, count(e.*) as count, coalesce(#{value}, 0) as value
        from generate_series(#{period(quote(first))}, #{period(quote(last))}, interval '1 #{group_by}') as p (period)
        left join event as e on e.period = p.period
        group by p.period order by p.period
      SQL
    end

    def aggregate = select("select #{value} as value from (#{events}) as e")[0]['value']

    def summary
      results = select(<<~SQL).to_h { |row| [row['id'], ActiveSupport::OrderedOptions[row.symbolize_keys]] }
        select e.#{COLUMNS[dimension_type]} as id, #{summary_metrics.map { |m| "#{number(m)} filter (where e.name = '#{m.raw_event_name}') as #{m.summary_key}" }.join(', ')}
        from reporting_events as e where e.account_id = #{account.id} and #{within} group by 1
      SQL
      merge_summary_results(results, summary_conversation_counts)
    end

    private

    def summary_conversation_counts = { 1 => 4, 99 => 2 }

    def merge_summary_results(results, conversations)
      (results.keys | conversations.keys).to_h do |id|
        [id, summary_metrics.to_h { |m| [m.summary_key, m.count? ? results[id]&.public_send(m.summary_key).to_i : results[id]&.public_send(m.summary_key)] }
                            .merge(conversations_count: conversations[id].to_i)]
      end
    end

    def first = range.begin.utc.strftime('%F %T.%6N')
    def last = (range.end.to_time.utc - 0.000001.to_r).strftime('%F %T.%6N')
    def within = "e.created_at >= #{quote(range.begin.utc.strftime('%F %T.%6N'))} and e.created_at < #{quote(range.end.utc.strftime('%F %T.%6N'))}"
    def zone = quote(ZONES.fetch(account.id, 'UTC'))
    def quote(value) = ReportingEvent.connection.quote(value)
    def select(sql) = ReportingEvent.connection.select_all(sql).to_a
    def seconds = use_business_hours? ? 'e.value_in_business_hours' : 'e.value'
    def number(metric) = metric.count? ? 'count(*)' : "avg(#{seconds})"

    def value
      return 'count(distinct e.conversation_id)' if raw_count_strategy == :distinct_conversation

      count_metric? ? 'count(e.id)' : "avg(#{seconds})"
    end

    def events
      <<~SQL
        select e.* from reporting_events as e
        where e.account_id = #{account.id} and e.name = #{quote(report_metric.raw_event_name)} and #{within}
          #{"and e.#{COLUMNS[dimension_type]} = #{scope.id}" unless dimension_type == 'account'}
      SQL
    end

    # Weeks begin on Sunday.
    def period(at)
      local = "(#{at}::timestamp at time zone 'UTC' at time zone #{zone})"
      group_by == 'week' ? "date_trunc('week', #{local} + interval '1 day') - interval '1 day'" : "date_trunc('#{group_by}', #{local})"
    end
  end
end

# Whether the last answer came from our functions.
$asked = []
ActiveSupport::Notifications.subscribe('sql.active_record') { |*, payload| $asked << payload[:sql] }
def answer(source, what)
  $asked.clear
  [source.public_send(what), $asked.any? { |sql| sql =~ /from rollup\.(timeseries|aggregate|summary)\(/ }]
end

def alike?(one, other)
  case one
  when Array then other.is_a?(Array) && one.size == other.size && one.zip(other).all? { |a, b| alike?(a, b) }
  when Hash then one.keys.sort == other.keys.sort && one.all? { |key, value| alike?(value, other[key]) }
  when Float then other.is_a?(Numeric) && (one - other).abs <= [1e-6, one.abs * 1e-9].max
  else one == other || other.is_a?(Float) && alike?(other, one)
  end
end

# A summary as a page reads it: nothing asks for what no agent or inbox has, and what is not there is 0.
def seen(what, said)
  what == :summary ? said.reject { |id, row| id.nil? || row.values.all? { |value| value.nil? || value.zero? } } : said
end
