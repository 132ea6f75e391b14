import { resolve } from "node:path";
import { z } from "zod";
import { UserError } from "../database/errors.js";

/** What the environment says; everything else is an argument or lives in the database. */
export interface Config {
  /** The database to work on; without one, the embedded server is used. */
  databaseUrl: string | undefined;
  /** Where the embedded server keeps its data. */
  dataFolder: string;
}

const blankIsUnset = (value: unknown) =>
  typeof value === "string" && value.trim() === "" ? undefined : value;

const environment = z.object({
  DATABASE_URL: z.preprocess(
    blankIsUnset,
    z
      .string()
      .trim()
      .refine(isConnectionUrl, "is not of the form postgres://user:password@host:port/database")
      .optional(),
  ),
  REPORTING_ROLLUP_DATA: z.preprocess(blankIsUnset, z.string().optional()),
});

/** Reads and checks the environment; throws a `UserError` (exit code 2) that names the variable, never its value. */
export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const parsed = environment.safeParse(env);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => `${issue.path.join(".")} ${issue.message}`);
    throw new UserError(`${problems.join("; ")}.`, {
      exitCode: 2,
      hint: "Special characters in a user name or password must be percent-encoded.",
    });
  }
  return {
    databaseUrl: parsed.data.DATABASE_URL,
    dataFolder: resolve(parsed.data.REPORTING_ROLLUP_DATA ?? ".reporting-rollup"),
  };
}

function isConnectionUrl(value: string): boolean {
  if (!/^postgres(ql)?:\/\//.test(value)) return false;
  try {
    // Several hosts are legal in a connection URL but not in the URL standard.
    new URL(value.replace(/,[^/?]*/, ""));
    return true;
  } catch {
    return false;
  }
}
