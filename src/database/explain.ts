/** What a failure to connect means, and what to do about it. */
import { errorCode, isClosed, UserError } from "./errors.js";
import { wrongAttributes } from "./pool.js";
import { readUrl } from "./url.js";

/** Where a URL leads, without the password. */
export function target(url: string) {
  const { host, port, user, database } = readUrl(url);
  return { host, port, user, database };
}

/** Turns a failure to connect into a message with a remedy; other errors are returned as they are. */
export function explainConnection(error: unknown, url: string): unknown {
  if (error instanceof UserError) return error;
  const { host, port, user, database } = target(url);
  const where = `${host}:${port}`;
  const message = error instanceof Error ? error.message : String(error);
  const explanations: Record<Failure, [text: string, hint: string]> = {
    "no answer": [
      `No PostgreSQL server answers at ${where}.`,
      "Is it running, and do host and port in DATABASE_URL lead to it?",
    ],
    "unknown host": [
      `The host ${host} is not known.`,
      "Check the host name in DATABASE_URL; a special character in the password must be percent-encoded.",
    ],
    "wrong password": [
      `The server at ${where} refuses the password of user ${user}.`,
      "Check user and password in DATABASE_URL; special characters must be percent-encoded.",
    ],
    "not let in": [
      `The server at ${where} does not let user ${user} in: ${message}.`,
      "Check the user in DATABASE_URL, the server's pg_hba.conf, and whether it wants SSL (?sslmode=require).",
    ],
    "not secure": [
      `There is no secure connection to the server at ${where}: ${message}.`,
      "sslmode=require alone encrypts without verifying the certificate; verify-ca, verify-full and channel_binding=require " +
        "verify it, against sslrootcert=FILE, or sslrootcert=system for a public authority's.",
    ],
    "other server wanted": [
      `There is ${message} at ${where}.`,
      "Check target_session_attrs in DATABASE_URL.",
    ],
    "no database": [
      `There is no database ${database} on the server at ${where}.`,
      "Check the database name in DATABASE_URL, or create the database first.",
    ],
    full: [
      `The server at ${where} has no connection left.`,
      "Close some of its clients, or raise max_connections.",
    ],
    "not ready": [`The server at ${where} is not ready: ${message}.`, "Try again in a moment."],
  };
  const failure = failureOf(error);
  if (failure === undefined) return error;
  const [text, hint] = explanations[failure];
  return new UserError(text, { hint, cause: error });
}

type Failure = (typeof byCode)[keyof typeof byCode] | "not secure";

const byCode = {
  ECONNREFUSED: "no answer",
  ECONNRESET: "no answer",
  EHOSTUNREACH: "no answer",
  ENETUNREACH: "no answer",
  ETIMEDOUT: "no answer",
  ENOENT: "no answer",
  ENOTFOUND: "unknown host",
  EAI_AGAIN: "unknown host",
  [wrongAttributes]: "other server wanted",
  "28P01": "wrong password",
  "28000": "not let in",
  "3D000": "no database",
  "53300": "full",
  "57P03": "not ready",
} as const;

function failureOf(error: unknown): Failure | undefined {
  const code = errorCode(error) ?? "";
  if (isClosed(error)) return "no answer";
  const insecure = /CERT|TLS|SSL|VERIFY/.test(code) || /not support SSL/.test(String(error));
  return byCode[code as keyof typeof byCode] ?? (insecure ? "not secure" : undefined);
}
