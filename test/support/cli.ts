/** Drives the command line: as a program that is read by a program, and through a pseudo-terminal as a person does. */
import { spawn as spawnProcess } from "node:child_process";
import { join, resolve } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { spawn as spawnTerminal } from "@lydell/node-pty";
import { databaseUrl } from "./database.js";

const root = resolve(import.meta.dirname, "../..");
/** As built by test/run.ts: what people run. */
const command = [join(root, "dist/command_line/cli.js")];

export interface CliOptions {
  /** Added to the environment; DATABASE_URL is this file's database unless told otherwise. */
  env?: Record<string, string>;
  cwd?: string;
}

export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A running command line. */
export interface CliProcess {
  pid: number;
  signal(name: NodeJS.Signals): void;
  /** Waits until its output (of both streams) matches. */
  until(pattern: RegExp | string): Promise<string>;
  /** Closes our end of its stdout, as `| head` does. */
  closeStdout(): void;
  result: Promise<CliResult>;
}

/** Starts `reporting-rollup` with these arguments, without a terminal. */
export function startCli(args: string[], options: CliOptions = {}): CliProcess {
  const child = spawnProcess(process.execPath, [...command, ...args], {
    cwd: options.cwd ?? root,
    env: environment(options),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const result: CliResult = { code: null, stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (chunk) => {
    result.stdout += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk) => {
    result.stderr += chunk;
  });
  let ended = false;
  return {
    pid: child.pid as number,
    signal: (name) => child.kill(name),
    until: (pattern) => {
      const output = () => result.stdout + result.stderr;
      return waitFor(pattern, output, () => ended);
    },
    closeStdout: () => child.stdout.destroy(),
    result: new Promise((done) =>
      child.on("close", (code) => {
        ended = true;
        done({ ...result, code });
      }),
    ),
  };
}

/** Runs `reporting-rollup` with these arguments to its end, without a terminal. */
export function cli(args: string[], options: CliOptions = {}): Promise<CliResult> {
  return startCli(args, options).result;
}

/** A command line on a pseudo-terminal. */
export interface Terminal {
  pid: number;
  /** All it has printed so far, without colours and cursor movements. */
  output(): string;
  /** Waits until what it prints matches, looking only at what came after the last match. */
  until(pattern: RegExp | string): Promise<string>;
  /** Types text, or presses a key. */
  type(text: string): void;
  press(key: keyof typeof keys): void;
  resize(columns: number, rows: number): void;
  /** The exit code. */
  ended: Promise<number>;
  kill(): void;
}

const keys = {
  enter: "\r",
  up: "\x1b[A",
  down: "\x1b[B",
  escape: "\x1b",
  backspace: "\x7f",
  tab: "\t",
  "ctrl-c": "\x03",
  "ctrl-d": "\x04",
} as const;

/** Runs `reporting-rollup` with these arguments on a pseudo-terminal. */
export function terminal(
  args: string[],
  options: CliOptions & { columns?: number; rows?: number } = {},
): Terminal {
  const child = spawnTerminal(process.execPath, [...command, ...args], {
    cwd: options.cwd ?? root,
    cols: options.columns ?? 100,
    rows: options.rows ?? 30,
    env: { ...environment(options), TERM: "xterm-256color", NO_COLOR: "", FORCE_COLOR: "" },
  });
  let raw = "";
  let seen = 0;
  let ended = false;
  child.onData((data) => {
    raw += data;
  });
  const output = () => stripVTControlCharacters(raw).replace(/\r\n/g, "\n");
  return {
    pid: child.pid,
    output,
    until: async (pattern) => {
      const matched = await waitFor(
        pattern,
        () => output().slice(seen),
        () => ended,
      );
      seen = output().lastIndexOf(matched) + matched.length;
      return matched;
    },
    type: (text) => child.write(text),
    press: (key) => child.write(keys[key]),
    resize: (columns, rows) => child.resize(columns, rows),
    ended: new Promise((done) =>
      child.onExit(({ exitCode }) => {
        ended = true;
        done(exitCode);
      }),
    ),
    kill: () => child.kill("SIGKILL"),
  };
}

function environment({ env }: CliOptions): Record<string, string> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("TEST_"));
  return { ...Object.fromEntries(inherited), DATABASE_URL: databaseUrl, ...env } as Record<
    string,
    string
  >;
}

/** The match of a pattern in growing text; throws, showing the text, when it ends or takes too long without one. */
async function waitFor(
  pattern: RegExp | string,
  text: () => string,
  ended: () => boolean,
): Promise<string> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const last = ended() || Date.now() > deadline;
    const found = typeof pattern === "string" ? text().includes(pattern) : pattern.exec(text());
    if (found) return typeof pattern === "string" ? pattern : (found as RegExpExecArray)[0];
    if (last) throw new Error(`${pattern} was not printed, but:\n${text()}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}
