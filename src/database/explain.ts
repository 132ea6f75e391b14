/** What a failure to connect means, and what to do about it. */
import { errorCode, isClosed, UserError } from "./errors.js";
import { wrongAttributes } from "./session.js";
import { type Attempt, readUrl } from "./url.js";

/** Turns a failure to connect into a message with a remedy; other errors are returned as they are. */
export function explainConnection(error: unknown, url: string): unknown {
  if (error instanceof UserError) return error;
  const { host, port, user, database, attempts } = readUrl(url);
  const where = `${host}:${port}`;
  const message = error instanceof Error ? error.message : String(error);
  const explanations: [code: RegExp, text: string, hint: string][] = [
    [
      /^(ECONN.*|E(HOST|NET)UNREACH|ETIMEDOUT|ENOENT|CONNECT_TIMEOUT|CONNECTION_(CLOSED|DESTROYED))$/,
      `No PostgreSQL server answers at ${where}.`,
      "Is it running, and do host and port in DATABASE_URL lead to it?",
    ],
    [
      /^(ENOTFOUND|EAI_AGAIN)$/,
      `The host ${host} is not known.`,
      "Check the host name in DATABASE_URL; a special character in the password must be percent-encoded.",
    ],
    [
      /^no password$/,
      `The server at ${where} wants a password of user ${user}, and there is none.`,
      "Put it into DATABASE_URL, PGPASSWORD or ~/.pgpass.",
    ],
    [
      /^28P01$/,
      `The server at ${where} refuses the password of user ${user}.`,
      "Check user and password in DATABASE_URL; special characters must be percent-encoded.",
    ],
    [
      /^28000$/,
      `The server at ${where} does not let user ${user} in: ${message}.`,
      "Check the user in DATABASE_URL, the server's pg_hba.conf, and whether it wants SSL (?sslmode=require).",
    ],
    [
      /^3D000$/,
      `There is no database ${database} on the server at ${where}.`,
      "Check the database name in DATABASE_URL, or create the database first.",
    ],
    [
      /^53300$/,
      `The server at ${where} has no connection left.`,
      "Close some of its clients, or raise max_connections.",
    ],
    [/^57P03$/, `The server at ${where} is not ready: ${message}.`, "Try again in a moment."],
    [
      new RegExp(wrongAttributes),
      `There is ${message} at ${where}.`,
      "Check target_session_attrs in DATABASE_URL.",
    ],
    [
      /CERT|TLS|SSL|VERIFY/,
      `There is no secure connection to the server at ${where}: ${message}.`,
      "sslmode=require alone encrypts without verifying the certificate; verify-ca, verify-full and channel_binding=require " +
        "verify it, against sslrootcert=FILE, or sslrootcert=system for a public authority's.",
    ],
  ];
  const found = explanations.find(([codes]) => codes.test(codeOf(error, attempts)));
  if (found === undefined) return error;
  const [, text, hint] = found;
  return new UserError(text, { hint, cause: error });
}

function codeOf(error: unknown, attempts: Attempt[]): string {
  if (isClosed(error)) return "ETIMEDOUT";
  const code = errorCode(error) ?? "";
  const hasPassword = attempts.some(({ password }) => password !== undefined);
  return code === "28P01" && !hasPassword ? "no password" : code;
}
