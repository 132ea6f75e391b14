/** The nodes of a Citus cluster: each has an installation of its own, and the accounts whose events it has. */
import type { Queries } from "./connection.js";
import { toUserError, UserError } from "./errors.js";

export interface Node {
  /** host:port, as the other nodes know it. */
  name: string;
  url: string;
  coordinator: boolean;
  /** Whether it is the one that the URL leads to. */
  here: boolean;
}

/** Sessions that install or remove: Citus is to pass on nothing by itself, and to hide nothing. */
export const ownSettings = {
  "citus.enable_ddl_propagation": "off",
  "citus.show_shards_for_app_name_prefixes": "*",
};

/** For a transaction whose locks on any node the host's writers would queue behind: it waits a moment only. */
export const waitBriefly =
  "set local citus.propagate_set_commands = 'local'; set local lock_timeout = '200ms'";

/** All nodes, the coordinator first; none where the database is no part of a Citus cluster. */
export async function nodesOf(sql: Queries, url: string): Promise<Node[]> {
  const [citus] = await sql<{ found: boolean }[]>`
    select to_regclass('pg_catalog.pg_dist_node') is not null as found`;
  if (!citus?.found) return [];
  const nodes = await sql<{ host: string; port: number; coordinator: boolean; here: boolean }[]>`
    select n.nodename as host, n.nodeport as port, n.groupid = 0 as coordinator, n.groupid = g.groupid as here
    from pg_dist_node as n cross join pg_dist_local_group as g
    where n.noderole = 'primary' and n.isactive
    order by n.groupid`;
  return nodes.map(({ host, port, coordinator, here }) => ({
    name: `${host}:${port}`,
    url: here ? url : withServer(url, host, port),
    coordinator,
    here,
  }));
}

/** The URL with another server in it. */
function withServer(url: string, host: string, port: number): string {
  const address = host.includes(":") ? `[${host}]` : host;
  return url
    .replace(/([?&])(host|hostaddr|port)=[^&]*/g, "$1")
    .replace(/^(\w+:\/\/(?:[^@/?]*@)?)[^/?]*/, `$1${address}:${port}`);
}

/** An error of a node, with its name. */
export function inNode(error: unknown, name: string): UserError {
  const { message, ...rest } = toUserError(error);
  return new UserError(`Node ${name}: ${message}`, { ...rest, cause: error });
}
