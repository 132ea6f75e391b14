/** The databases of a test file: its own, which test/run.ts made, and further ones. */
import { type ClientOptions, connect as connectTo, type Sql } from "./client.js";

/** The URL of this file's database: a clone of the migrated template, dropped after the file. */
export const databaseUrl = required("TEST_DATABASE_URL");

/** The PostgreSQL major under test. */
export const postgresMajor = Number(required("TEST_PG"));

const serverUrl = required("TEST_SERVER_URL");
const template = required("TEST_TEMPLATE");
let shared: Sql | undefined;
let made = 0;

/** The client on this file's database, the same at every call. */
export function database(): Sql {
  shared ??= connectTo(databaseUrl, { max: 10, applicationName: "test" });
  return shared;
}

/** A client of its own, with one connection unless told otherwise: for whatever must not share a connection. */
export function connect(options: ClientOptions & { url?: string; superuser?: boolean } = {}): Sql {
  const { url = databaseUrl, superuser = false, ...rest } = options;
  const as = superuser ? asSuperuser(url) : url;
  return connectTo(as, { max: 1, applicationName: "test", ...rest });
}

/** The same database for the superuser, who may do what the owner of everything may not. */
export function asSuperuser(url: string): string {
  return otherDatabase(serverUrl, new URL(url).pathname.slice(1));
}

/** The role that owns the databases: on one major the superuser, on the other an ordinary one. */
export const owner = new URL(databaseUrl).username;

/** A further database. */
export interface TestDatabase {
  name: string;
  url: string;
  sql: Sql;
  drop(): Promise<void>;
}

/** Makes a further database: a clone of the template or of another, or an empty one. */
export async function createDatabase(
  options: { empty?: boolean; template?: string } = {},
): Promise<TestDatabase> {
  const name = `${new URL(databaseUrl).pathname.slice(1)}_${++made}`;
  const source = options.template ?? (options.empty ? "template0" : template);
  await onServer(
    (server) => server`
      create database ${server(name)} template ${server(source)} strategy file_copy owner ${server(owner)}`,
  );
  const url = otherDatabase(databaseUrl, name);
  const sql = connectTo(url, { max: 10, applicationName: "test" });
  return {
    name,
    url,
    sql,
    drop: async () => {
      await sql.end({ timeout: 1 });
      await onServer((server) => server`drop database ${server(name)} with (force)`);
    },
  };
}

/** The same URL with another database, user or password. */
export function otherDatabase(
  url: string,
  name: string,
  login?: { user: string; password: string },
): string {
  const other = new URL(url);
  other.pathname = `/${name}`;
  if (login !== undefined) Object.assign(other, { username: login.user, password: login.password });
  return other.href;
}

/** Runs something on the server's maintenance database, as its superuser. */
export async function onServer<T>(work: (sql: Sql) => Promise<T> | PromiseLike<T>): Promise<T> {
  const sql = connectTo(serverUrl, { max: 1, applicationName: "test" });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

function required(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: run tests with npm test`);
  return value;
}
