/** Where data and programs are kept, and as whom a server may use them. */
import { createHash } from "node:crypto";
import { chmod, lstat, mkdir, realpath, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { UserError } from "../database/errors.js";
import { type Identity, run } from "./processes.js";

/**
 * The wanted folder; or, when we are root and the server's user cannot enter it, or when pg_ctl could not quote its
 * name, a temporary one, always the same.
 */
export async function stateFolder(
  wanted: string,
): Promise<{ folder: string; runAs: Identity | undefined }> {
  const runAs = await serverUser();
  await makeFolder(wanted);
  if (isShellSafe(wanted) && (runAs === undefined || (await canEnter(wanted, runAs)))) {
    return { folder: wanted, runAs: await dataOwner(wanted, runAs) };
  }
  await rm(join(wanted, ".gitignore"), { force: true });
  await rmdir(wanted).catch(() => {});
  const name = createHash("sha256")
    .update(await canonical(wanted))
    .digest("hex")
    .slice(0, 12);
  const folder = await temporaryFolder(name, runAs);
  return { folder, runAs: await dataOwner(folder, runAs) };
}

/** pg_ctl puts paths into a shell's command line between double quotes, as they are. */
export function isShellSafe(path: string): boolean {
  return process.platform === "win32" || !/["$`\\\n]/.test(path);
}

async function canonical(path: string): Promise<string> {
  return join(await realpath(dirname(path)), basename(path));
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    if (isRoot()) await chmod(folder, 0o755);
    // Ignored by git wherever it stands, not only in a checkout of this project.
    await writeFile(join(folder, ".gitignore"), "*\n");
  } catch (error) {
    throw new UserError(`The folder ${folder} for the embedded server cannot be written.`, {
      hint: "Set REPORTING_ROLLUP_DATA to a folder that can, or DATABASE_URL to a PostgreSQL server.",
      cause: error,
    });
  }
}

/** A folder of a fixed name in the system's temporary folder, taken only if nobody else can have put it there. */
export async function temporaryFolder(name: string, runAs: Identity | undefined): Promise<string> {
  for (const base of [tmpdir(), "/tmp", "/var/tmp"]) {
    if (runAs !== undefined && !(await canEnter(base, runAs))) continue;
    const folder = join(base, `reporting-rollup-${process.getuid?.() ?? "user"}-${name}`);
    await mkdir(folder, { mode: 0o755 }).catch(() => {});
    if (!(await isOurs(folder))) {
      throw new UserError(`The folder ${folder} was made by somebody else.`, {
        hint: "Remove it, or set REPORTING_ROLLUP_DATA to another folder.",
      });
    }
    await makeFolder(folder);
    return folder;
  }
  throw new UserError("No temporary folder can be entered by the user that runs the server.", {
    hint: "Set REPORTING_ROLLUP_DATA to a folder it can enter, or DATABASE_URL to a PostgreSQL server.",
  });
}

async function isOurs(folder: string): Promise<boolean> {
  const found = await lstat(folder).catch(() => undefined);
  if (!found?.isDirectory()) return false;
  return process.getuid === undefined || (found.uid === process.getuid() && !(found.mode & 0o022));
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Whom the server runs as when we are root. */
async function serverUser(): Promise<Identity | undefined> {
  if (!isRoot()) return undefined;
  for (const name of ["postgres", "nobody"]) {
    const [uid, gid] = await Promise.all([
      run("id", ["-u", name], undefined),
      run("id", ["-g", name], undefined),
    ]);
    if (uid.code === 0 && gid.code === 0)
      return { uid: Number(uid.output), gid: Number(gid.output) };
  }
  throw new UserError("PostgreSQL does not run as root, and there is no user postgres or nobody.", {
    hint: "Run as another user, or set DATABASE_URL to a PostgreSQL server.",
  });
}

/** A folder once made by an ordinary user goes on being served as that user. */
async function dataOwner(
  folder: string,
  runAs: Identity | undefined,
): Promise<Identity | undefined> {
  if (runAs === undefined) return undefined;
  const owner = await stat(join(folder, "data")).catch(() => undefined);
  return owner === undefined || owner.uid === 0 ? runAs : { uid: owner.uid, gid: owner.gid };
}

async function canEnter(folder: string, runAs: Identity): Promise<boolean> {
  return (await run("/bin/sh", ["-c", 'cd "$1"', "sh", folder], runAs)).code === 0;
}
