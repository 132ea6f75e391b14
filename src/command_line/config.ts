import { resolve } from "node:path";
import { readUrl } from "../database/url.js";

/** What the environment says; everything else is an argument or lives in the database. */
export interface Config {
  /** The database to work on; without one, the embedded server is used. */
  databaseUrl: string | undefined;
  /** Where the embedded server keeps its data. */
  dataFolder: string;
}

/** Reads and checks the environment; throws a `UserError` (exit code 2) that names the variable, never its value. */
export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const databaseUrl = env.DATABASE_URL?.trim() || undefined;
  if (databaseUrl !== undefined) readUrl(databaseUrl, env);
  return {
    databaseUrl,
    dataFolder: resolve(env.REPORTING_ROLLUP_DATA?.trim() || ".reporting-rollup"),
  };
}
