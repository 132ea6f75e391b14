/**
 * A connection URL with libpq's meaning of every part: hosts, parameters, PG… variables, service and password files. Read
 * once; drivers are given the parts, and never see a URL.
 */
import { existsSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import { homedir, userInfo } from "node:os";
import { join } from "node:path";
import type { ConnectionOptions as TlsOptions } from "node:tls";
import { UserError } from "./errors.js";

/** What libpq calls a session's attributes: which of several servers will do. */
export type SessionAttributes =
  | "any"
  | "read-write"
  | "read-only"
  | "primary"
  | "standby"
  | "prefer-standby";

/** One way to connect; those of a URL are tried in turn. */
export interface Attempt {
  attributes: SessionAttributes;
  /** A name, an address, or the folder of a socket. */
  address: string;
  port: number;
  user: string;
  database: string;
  password: string | undefined;
  /** Settings for the server, as command-line options. */
  options: string | undefined;
  /** Undefined: without TLS. */
  tls: TlsOptions | undefined;
  /** TLS from the first byte on. */
  direct: boolean;
  /** Seconds until a silent connection is probed; 0 is never. */
  keepAlive: number;
  /** Seconds for connecting; 0 is forever. */
  timeout: number;
}

export interface Target {
  /** For messages: where it leads, without password. */
  host: string;
  port: string;
  user: string;
  database: string;
  applicationName: string | undefined;
  attempts: Attempt[];
}

type Parameters = Record<string, string>;

/** The PG… variables, by the parameter that each stands for. */
const variables: Parameters = {
  host: "PGHOST",
  hostaddr: "PGHOSTADDR",
  port: "PGPORT",
  dbname: "PGDATABASE",
  user: "PGUSER",
  password: "PGPASSWORD",
  passfile: "PGPASSFILE",
  service: "PGSERVICE",
  servicefile: "PGSERVICEFILE",
  options: "PGOPTIONS",
  application_name: "PGAPPNAME",
  connect_timeout: "PGCONNECT_TIMEOUT",
  channel_binding: "PGCHANNELBINDING",
  require_auth: "PGREQUIREAUTH",
  requirepeer: "PGREQUIREPEER",
  gssencmode: "PGGSSENCMODE",
  sslmode: "PGSSLMODE",
  sslnegotiation: "PGSSLNEGOTIATION",
  sslcert: "PGSSLCERT",
  sslkey: "PGSSLKEY",
  sslrootcert: "PGSSLROOTCERT",
  sslcrl: "PGSSLCRL",
  sslcrldir: "PGSSLCRLDIR",
  ssl_min_protocol_version: "PGSSLMINPROTOCOLVERSION",
  ssl_max_protocol_version: "PGSSLMAXPROTOCOLVERSION",
  target_session_attrs: "PGTARGETSESSIONATTRS",
  load_balance_hosts: "PGLOADBALANCEHOSTS",
};

const words = (text: string) => text.trim().split(/\s+/);

/** What libpq knows and this module uses. */
const used = new Set([
  ...Object.keys(variables),
  ...words("fallback_application_name sslpassword keepalives keepalives_idle ssl"),
]);

/** What libpq knows and makes no difference here. */
const harmless = new Set(
  words(`client_encoding keepalives_interval keepalives_count tcp_user_timeout sslcompression sslcertmode sslsni
    requiressl krbsrvname gsslib gssdelegation min_protocol_version max_protocol_version`),
);

/** What tools and frameworks keep in the same URL, for themselves. */
const ofTools = new RegExp(
  `^(${words(`pgbouncer connection_limit pool.* max_pool.* min_pool.* socket_timeout schema search_path schema_search_path
    currentSchema statement_cache_.* prepared?_?statements? prepare prepareThreshold default_query_exec_mode advisory_locks
    sslaccept sslidentity uselibpqcompat encoding adapter reconnect reaping_frequency checkout_timeout idle_timeout
    workaround supa min_messages max min timeout`).join("|")})$`,
);

/** What would weaken a connection if it were ignored, and is refused unless it asks for nothing. */
const unsupported: Record<string, RegExp> = {
  require_auth: /^$/,
  requirepeer: /^$/,
  sslcrldir: /^$/,
  gssencmode: /^(disable|prefer)$/,
  replication: /^(false|off|no|0)$/,
};

const example = "postgres://user:password@host:port/database";

/** Reads a URL; throws a `UserError` (exit code 2) that names what is wrong with it, never a password. */
export function readUrl(url: string, env: NodeJS.ProcessEnv = process.env): Target {
  const explicit = parseUrl(url);
  const service = explicit.service ?? env.PGSERVICE;
  const parameters = { ...fromEnvironment(env), ...fromService(service, env), ...explicit };
  refuseUnknown(parameters);
  if (/^(true|1)$/.test(parameters.ssl ?? "")) parameters.sslmode ??= "require";
  const user = parameters.user ?? operatingSystemUser();
  const database = parameters.dbname ?? user;
  const hosts = readHosts(parameters);
  const base = {
    user,
    database,
    options: parameters.options,
    direct: oneOf(parameters, "sslnegotiation", ["postgres", "direct"], "postgres") === "direct",
    keepAlive: parameters.keepalives === "0" ? 0 : wholeNumber(parameters, "keepalives_idle", 60),
    timeout: wholeNumber(parameters, "connect_timeout", 10),
  };
  const attempts = readAttributes(parameters).flatMap((attributes) =>
    hosts.flatMap(({ host, address, port }) => {
      const password = parameters.password ?? fromPassfile(parameters, env, host, port, database);
      const way = { ...base, attributes, address, port, password };
      return readTls(parameters, env, host).map((tls) => ({ ...way, tls }));
    }),
  );
  return {
    host: hosts.map(({ host }) => host).join(","),
    port: [...new Set(hosts.map(({ port }) => port))].join(","),
    user,
    database,
    applicationName: parameters.application_name ?? parameters.fallback_application_name,
    attempts,
  };
}

function wrong(problem: string, hint = `The form is ${example}?sslmode=require.`): UserError {
  return new UserError(`DATABASE_URL ${problem}.`, { exitCode: 2, hint });
}

// --- The URL and what completes it ----------------------------------------------------------------------

const form = /^postgres(?:ql)?:\/\/(?:([^:@/]*)(?::([^@/]*))?@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/;

function parseUrl(url: string): Parameters {
  const found = form.exec(url.trim());
  if (found === null) {
    throw wrong(
      `is not of the form ${example}`,
      "Special characters in a user name or password must be percent-encoded.",
    );
  }
  const [, user, password, hosts = "", dbname, query = ""] = found;
  const parameters: Parameters = {};
  const set = (name: string, value: string | undefined) => {
    if (value !== undefined && value !== "") parameters[name] = decode(value, name);
  };
  set("user", user);
  set("password", password);
  const parts = hosts.split(",").map((part) => /^(\[.*\]|[^:]*)(?::(.*))?$/.exec(part) ?? []);
  const list = (index: number) => parts.map((part) => part[index] ?? "").join(",");
  if (/[^,]/.test(list(1))) set("host", list(1));
  if (/[^,]/.test(list(2))) set("port", list(2));
  set("dbname", dbname);
  for (const pair of query.split("&").filter(Boolean)) {
    const [name = "", value = ""] = pair.split(/=(.*)/s);
    set(decode(name, "query"), value);
  }
  return parameters;
}

function decode(text: string, name: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw wrong(
      `has a ${name} that is not percent-encoded rightly`,
      "A percent sign itself is %25.",
    );
  }
}

function fromEnvironment(env: NodeJS.ProcessEnv): Parameters {
  const set = Object.entries(variables).filter(([, variable]) => env[variable]);
  return Object.fromEntries(set.map(([name, variable]) => [name, env[variable] as string]));
}

/** A section of the service file, as `[name]` and `key=value` lines. */
function fromService(name: string | undefined, env: NodeJS.ProcessEnv): Parameters {
  if (!name) return {};
  const files = [
    env.PGSERVICEFILE ?? join(home(env), ".pg_service.conf"),
    join(env.PGSYSCONFDIR ?? "/etc/postgresql-common", "pg_service.conf"),
  ];
  for (const file of files.filter(existsSync)) {
    let section: Parameters | undefined;
    for (const line of readFileSync(file, "utf8").split(/\r?\n/)) {
      const header = /^\s*\[(.*)\]\s*$/.exec(line);
      if (header !== null && section !== undefined) break;
      if (header?.[1] === name) section = {};
      const pair = /^\s*([^#=\s][^=]*?)\s*=(.*)$/.exec(line);
      if (section !== undefined && pair !== null) section[pair[1] as string] = pair[2] as string;
    }
    if (section !== undefined) return section;
  }
  throw wrong(
    `asks for service ${name}, which is not defined`,
    `Looked for in ${files.join(" and ")}.`,
  );
}

function refuseUnknown(parameters: Parameters): void {
  const known = (name: string) =>
    used.has(name) || harmless.has(name) || ofTools.test(name) || name in unsupported;
  const unknown = Object.keys(parameters).filter((name) => !known(name));
  if (unknown.length > 0) {
    throw wrong(
      `has parameters that are not known: ${unknown.join(", ")}`,
      "Parameters are those of PostgreSQL's connection URIs; settings of a session go into options=-c%20name%3Dvalue.",
    );
  }
  for (const [name, harmlessValue] of Object.entries(unsupported)) {
    const value = parameters[name];
    if (value === undefined || harmlessValue.test(value)) continue;
    throw wrong(`asks for ${name}=${value}, which is not supported`, `Leave ${name} out.`);
  }
}

function oneOf<T extends string>(
  parameters: Parameters,
  name: string,
  values: readonly T[],
  usual: T,
): T {
  const value = parameters[name] ?? usual;
  if ((values as readonly string[]).includes(value)) return value as T;
  throw wrong(`asks for ${name}=${value}`, `${name} is one of ${values.join(", ")}.`);
}

function wholeNumber(parameters: Parameters, name: string, usual: number): number {
  const value = parameters[name] ?? String(usual);
  if (!/^-?\d{1,6}$/.test(value.trim()))
    throw wrong(`asks for ${name}=${value}`, "It is a whole number.");
  return Math.max(Number(value), 0);
}

function operatingSystemUser(): string {
  try {
    return userInfo().username;
  } catch {
    throw wrong("names no user", `The form is ${example}.`);
  }
}

function home(env: NodeJS.ProcessEnv): string {
  return env.HOME ?? homedir();
}

// --- Hosts ----------------------------------------------------------------------------------------------

interface Host {
  /** As it was given. */
  host: string;
  /** Where to connect to: a name, an address, or the folder of a socket. */
  address: string;
  port: number;
}

function readHosts(parameters: Parameters): Host[] {
  const names = parameters.host?.split(",");
  const addresses = parameters.hostaddr?.split(",");
  const ports = parameters.port?.split(",") ?? [];
  const count = Math.max(names?.length ?? 1, addresses?.length ?? 1);
  if (ports.length > 1 && ports.length !== count) {
    throw wrong(`names ${count} hosts and ${ports.length} ports`, "Name one port, or one a host.");
  }
  const hosts = Array.from({ length: count }, (_, index) => {
    const port = Number((ports.length > 1 ? ports[index] : ports[0]) || 5432);
    if (!Number.isInteger(port) || port < 1 || port > 65535) {
      throw wrong("has a port that is not a number from 1 to 65535");
    }
    const address = addresses?.[index] || names?.[index] || usualHost(port);
    const unbracketed = address.replace(/^\[(.*)\]$/, "$1");
    return { host: names?.[index] || unbracketed, address: unbracketed, port };
  });
  const balance = oneOf(parameters, "load_balance_hosts", ["disable", "random"], "disable");
  return balance === "random"
    ? hosts
        .map((host) => ({ host, at: Math.random() }))
        .sort((a, b) => a.at - b.at)
        .map(({ host }) => host)
    : hosts;
}

/** Without a host: the local server's socket, where there is one. */
function usualHost(port: number): string {
  const folders = ["/var/run/postgresql", "/tmp"];
  return folders.find((folder) => existsSync(`${folder}/.s.PGSQL.${port}`)) ?? "localhost";
}

function isSocket(host: string): boolean {
  return host.startsWith("/");
}

function readAttributes(parameters: Parameters): SessionAttributes[] {
  const all = ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] as const;
  const wanted = oneOf(parameters, "target_session_attrs", all, "any");
  return wanted === "prefer-standby" ? ["standby", "any"] : [wanted];
}

// --- TLS ------------------------------------------------------------------------------------------------

/** With and without TLS (undefined), in the order in which they are tried. */
function readTls(parameters: Parameters, env: NodeJS.ProcessEnv, host: string) {
  const modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;
  const given = parameters.sslmode === "no-verify" ? "require" : parameters.sslmode;
  const usual = parameters.sslrootcert === "system" ? "verify-full" : "prefer";
  const mode = oneOf({ ...(given && { sslmode: given }) }, "sslmode", modes, usual);
  const bound = mustBind(parameters);
  if (isSocket(host) || mode === "disable") {
    if (!bound) return [undefined];
    throw wrong("asks for channel_binding=require, and for no TLS", "Leave channel_binding out.");
  }
  if (bound) {
    const verified = mode === "verify-ca" ? mode : "verify-full";
    return [tlsOptions(parameters, env, verified, host)];
  }
  const encrypted = tlsOptions(parameters, env, mode, host);
  if (mode === "allow") return [undefined, encrypted];
  return mode === "prefer" ? [encrypted, undefined] : [encrypted];
}

/** The driver cannot bind. What binding is for, that nobody stands between, a verified certificate proves as well. */
function mustBind(parameters: Parameters): boolean {
  const values = ["disable", "prefer", "require"] as const;
  return oneOf(parameters, "channel_binding", values, "prefer") === "require";
}

function tlsOptions(
  parameters: Parameters,
  env: NodeJS.ProcessEnv,
  mode: string,
  host: string,
): TlsOptions {
  const usual = (name: string) => {
    const file = join(home(env), ".postgresql", name);
    return existsSync(file) ? file : undefined;
  };
  const authority = mustBind(parameters) ? "system" : undefined;
  const root = parameters.sslrootcert ?? usual("root.crt") ?? authority;
  const cert = parameters.sslcert ?? usual("postgresql.crt");
  const key = parameters.sslkey ?? (cert === undefined ? undefined : usual("postgresql.key"));
  const crl = parameters.sslcrl ?? usual("root.crl");
  if (root === undefined && mode.startsWith("verify")) {
    throw wrong(
      `asks for sslmode=${mode}, and there is no certificate to verify with`,
      "Name the authority's certificate: sslrootcert=FILE, or sslrootcert=system for the public ones.",
    );
  }
  return {
    host,
    ...(isIP(host) ? {} : { servername: host }),
    // With a root certificate libpq always verifies the chain, and the name for verify-full alone.
    rejectUnauthorized: root !== undefined,
    ...(mode === "verify-full" ? {} : { checkServerIdentity: () => undefined }),
    ...(root === undefined || root === "system" ? {} : { ca: fileOf("sslrootcert", root) }),
    ...(cert === undefined ? {} : { cert: fileOf("sslcert", cert) }),
    ...(key === undefined ? {} : { key: fileOf("sslkey", key) }),
    ...(crl === undefined ? {} : { crl: fileOf("sslcrl", crl) }),
    ...(parameters.sslpassword === undefined ? {} : { passphrase: parameters.sslpassword }),
    ...version(parameters, "ssl_min_protocol_version", "minVersion"),
    ...version(parameters, "ssl_max_protocol_version", "maxVersion"),
  };
}

function version(parameters: Parameters, name: string, option: "minVersion" | "maxVersion") {
  if (parameters[name] === undefined) return {};
  const versions = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const;
  return { [option]: oneOf(parameters, name, versions, "TLSv1.2") };
}

function fileOf(parameter: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UserError(`The file ${path}, named by ${parameter}, cannot be read.`, {
      exitCode: 2,
      hint: "Check the database URL, the PG… variables and ~/.postgresql.",
      cause: error,
    });
  }
}

// --- The password file ----------------------------------------------------------------------------------

/** The password of the first line that fits: host:port:database:user:password, each with \ before : and \. */
function fromPassfile(
  parameters: Parameters,
  env: NodeJS.ProcessEnv,
  host: string,
  port: number,
  database: string,
): string | undefined {
  const file = parameters.passfile ?? join(home(env), ".pgpass");
  const user = parameters.user ?? operatingSystemUser();
  const wanted = [usualSocket(host) ? "localhost" : host, String(port), database, user];
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
  for (const line of text.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#"))) {
    const fields = [...line.matchAll(/((?:\\.|[^:\\])*)(?::|$)/g)].map(([, field = ""]) =>
      field.replace(/\\(.)/g, "$1"),
    );
    const fits = wanted.every((value, index) => fields[index] === "*" || fields[index] === value);
    if (fits) return fields[4];
  }
  return undefined;
}

function usualSocket(host: string): boolean {
  return host === "/var/run/postgresql" || host === "/tmp";
}
