-- The dimensions: by what an event is counted. A further one that events carry is a line in each of these two lists.

create or replace function rollup.dimension_types()
returns text[]
language sql immutable parallel safe
return array['account', 'agent', 'inbox'];
comment on function rollup.dimension_types() is 'The types of dimensions.';

create or replace function rollup.dimension_id(p_dimension_type text, p_account_id int, p_user_id bigint, p_inbox_id bigint)
returns bigint
language sql immutable parallel safe
return case p_dimension_type
  when 'account' then p_account_id
  when 'agent' then p_user_id
  when 'inbox' then p_inbox_id
end;
comment on function rollup.dimension_id(text, int, bigint, bigint) is
  'What an event counts for in a dimension: the id of its account, agent or inbox; NULL: nothing.';

create or replace function rollup.dimensions(p_account_id int, p_user_id bigint, p_inbox_id bigint)
returns table (dimension_type text, dimension_id bigint)
language sql immutable parallel safe
begin atomic
  select d.*
  from (
    select t.dimension_type, rollup.dimension_id(t.dimension_type, p_account_id, p_user_id, p_inbox_id) as dimension_id
    from unnest(rollup.dimension_types()) as t (dimension_type)
  ) as d
  where d.dimension_id is not null;
end;
comment on function rollup.dimensions(int, bigint, bigint) is
  'The dimensions that an event counts in; a missing agent or inbox is none.';
