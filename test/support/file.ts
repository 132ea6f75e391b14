/**
 * Runs one test file as a process and judges how it went. uvu says success also when a hook throws and when a suite
 * is never run, so this counts what it says, and what it does not.
 */
import { execFile, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";

const root = resolve(import.meta.dirname, "../..");
const built = join(root, ".compiled");
const running = new Set<number>();

export interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
}

export interface FileResult {
  outcome: Outcome;
  /** Why it failed. */
  problems: string[];
  output: string;
}

/** Compiles src/ and test/, once for all test files. Types are the linter's to check. */
export async function compile(): Promise<void> {
  const sourceMaps = ["--inlineSourceMap", "--sourceRoot", pathToFileURL(`${root}/`).href];
  const output = ["--noEmit", "false", "--noCheck", "--rootDir", ".", "--outDir", built];
  await command("npx", "tsc", ...output, ...sourceMaps);
}

/** Runs a program in the root folder; throws, with what it said, when it fails. */
export async function command(program: string, ...args: string[]): Promise<void> {
  try {
    await promisify(execFile)(program, args, { cwd: root });
  } catch (error) {
    const { stdout } = error as { stdout?: string };
    throw new Error(`${[program, ...args].join(" ")} failed:\n${stdout || error}`, {
      cause: error,
    });
  }
}

/** Runs a test file, with these variables added to its environment. */
export async function runTestFile(
  path: string,
  env: Record<string, string>,
  minutes = 15,
): Promise<FileResult> {
  const result = await runProcess(path, env, minutes);
  return { ...judge(result, await oversights(path)), output: result.output };
}

/** Ends the test files that are running. */
export function killTestFiles(): void {
  for (const pid of running) kill(pid);
}

interface Result {
  code: number | null;
  output: string;
}

function judge(
  { code, output }: Result,
  oversights: string[],
): { outcome: Outcome; problems: string[] } {
  const total = figure(output, "Total");
  const passed = figure(output, "Passed");
  const skipped = figure(output, "Skipped");
  const problems = [...oversights];
  if (total === undefined || passed === undefined) problems.push("it ended before its tests did");
  else if (total === 0 && !skipped) problems.push("it ran no test");
  else if (passed < total) problems.push(`${total - passed} of ${total} tests did not pass`);
  if (code !== 0 && problems.length === 0) problems.push(`it ended with code ${code}`);
  const missing = (total ?? 0) - (passed ?? 0);
  return {
    outcome: {
      passed: passed ?? 0,
      failed: problems.length > 0 ? Math.max(missing, 1) : 0,
      skipped: skipped ?? 0,
    },
    problems,
  };
}

function figure(output: string, label: string): number | undefined {
  const found = [...output.matchAll(new RegExp(`^  ${label}: +(\\d+)`, "gm"))].at(-1);
  return found === undefined ? undefined : Number(found[1]);
}

/** What uvu does not notice: suites that are never run, and tests left out by `only`. */
async function oversights(path: string): Promise<string[]> {
  const source = await readFile(path, "utf8");
  const suites = [...source.matchAll(/^(?:export )?const (\w+) = suite\b/gm)].map(
    ([, name]) => name,
  );
  if (/import \{[^}]*\btest\b[^}]*\} from "uvu"/.test(source)) suites.push("test");
  return suites.flatMap((name) => [
    ...(source.includes(`${name}.run()`) ? [] : [`${name}.run() is missing`]),
    ...(source.includes(`${name}.only(`) ? [`${name}.only leaves others out`] : []),
  ]);
}

async function runProcess(
  path: string,
  env: Record<string, string>,
  minutes: number,
): Promise<Result> {
  const child = spawn(
    process.execPath,
    [
      "--enable-source-maps",
      ...["compiled", "exit"].flatMap((name) => [
        "--import",
        join(built, `test/support/${name}.js`),
      ]),
      path,
    ],
    {
      cwd: root,
      // A group of its own, so that a file which hangs goes with all it started.
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0", DATABASE_URL: "", ...env },
    },
  );
  const pid = child.pid as number;
  running.add(pid);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk) => {
      output += chunk;
    });
  }
  const timer = setTimeout(() => {
    output += `\nstopped after ${minutes} minutes\n`;
    kill(pid);
  }, minutes * 60_000);
  const closed = new Promise((done) => child.on("close", done));
  const code = await new Promise<number | null>((done) => child.on("exit", done));
  // The pipes stay open for as long as anything it started lives.
  kill(pid);
  await Promise.race([closed, sleep(1000)]);
  clearTimeout(timer);
  running.delete(pid);
  return { code, output };
}

function kill(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It ended by itself.
  }
}
