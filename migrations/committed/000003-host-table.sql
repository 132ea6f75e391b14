--! Previous: sha1:8aa015e7bcfa418ff6149cfdaa3feda047b2c5f2
--! Hash: sha1:46dc617f1bc85cda7b1424ada7ccbae4e0083b79
--! Message: host table

-- What the host's table was like when the worker last looked.

create table rollup.host_table (
  one boolean primary key default true check (one),
  state jsonb not null
);
comment on table rollup.host_table is 'One row: rollup.host_table_state() when the worker last looked.';
