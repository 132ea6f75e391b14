/** An error whose message is meant for the person at the keyboard: shown without a stack trace. */
export class UserError extends Error {
  override readonly name = "UserError";
  readonly hint: string | undefined;
  readonly detail: string | undefined;
  /** 1: it failed. 2: the arguments are wrong by themselves. */
  readonly exitCode: 1 | 2;

  constructor(
    message: string,
    explained: Partial<Pick<UserError, "hint" | "detail" | "exitCode" | "cause">> = {},
  ) {
    super(message, { cause: explained.cause });
    this.hint = explained.hint;
    this.detail = explained.detail;
    this.exitCode = explained.exitCode ?? 1;
  }
}

/** The error code (an SQLSTATE, or Node's own such as `ECONNREFUSED`) of anything thrown. */
export function errorCode(error: unknown): string | undefined {
  return textProperty(error, "code");
}

const lostConnection = new Set([
  ...["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"],
  ...["ENOTFOUND", "EAI_AGAIN", "ENOENT"],
  ...["CONNECT_TIMEOUT", "CONNECTION_CLOSED", "CONNECTION_ENDED", "CONNECTION_DESTROYED"],
  // The server goes down, comes up, recovers, has no connection left, or ended our session.
  ...["57P01", "57P02", "57P03", "57P05", "53300", "25006", "08000", "08003", "08006"],
]);

/** Whether an error says that the connection or the server is gone, rather than that the statement is wrong. */
export function isLostConnection(error: unknown): boolean {
  return lostConnection.has(errorCode(error) ?? "") || isClosed(error);
}

/** Whether the queue's driver says so; it gives no code. */
export function isClosed(error: unknown): boolean {
  return (
    error instanceof Error &&
    /^Connection terminated|is not queryable$|^timeout expired$|TLS connection was established$/.test(
      error.message,
    )
  );
}

/** Whether a lock could not be had in time, or waiting for it would have been a deadlock. */
export function isLockConflict(error: unknown): boolean {
  return ["55P03", "40P01"].includes(errorCode(error) ?? "");
}

/** Of ours: an unknown name of a metric or a period, and a missing argument. */
const wrongArgument = new Set(["RU008", "RU009"]);
const notMigrated = new Set(["3F000", "42P01", "42883", "42703"]);

/** Any error as a `UserError`: the database's own message, detail and hint where it has them. */
export function toUserError(error: unknown): UserError {
  if (error instanceof UserError) return error;
  const message = error instanceof Error && error.message ? error.message : String(error);
  const code = errorCode(error) ?? "";
  const hint = textProperty(error, "hint");
  if (notMigrated.has(code) && /\brollup/.test(message)) {
    return new UserError(`The database is not, or not completely, migrated: ${message}.`, {
      hint: "Run `reporting-rollup migrate`.",
      cause: error,
    });
  }
  if (code === "42501") {
    return new UserError(`The database role may not do this: ${message}.`, {
      hint: hint ?? "Connect as the owner of the host's tables, or ask for the missing right.",
      cause: error,
    });
  }
  if (isLostConnection(error)) {
    return new UserError(`The connection to the database was lost: ${message}.`, {
      hint: "Is the server still running? What was committed is kept; run the command again.",
      cause: error,
    });
  }
  return new UserError(message, {
    hint,
    detail: textProperty(error, "detail"),
    exitCode: wrongArgument.has(code) ? 2 : 1,
    cause: error,
  });
}

function textProperty(error: unknown, name: string): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const value = (error as Record<string, unknown>)[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}
