-- Nobody but the owner may use any of this until it is granted. The host's role needs nothing: the trigger runs as its owner.

revoke all on schema rollup from public;
revoke all on all tables in schema rollup from public;
revoke all on all functions in schema rollup from public;
