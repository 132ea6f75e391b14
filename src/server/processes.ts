/** Programs that are run to their end, and whether a process lives. */
import { type SpawnOptions, spawn } from "node:child_process";
import { errorCode } from "../database/errors.js";

export interface Identity {
  uid: number;
  gid: number;
}

/** Runs a program to its end, as another user if need be, without the caller's PostgreSQL environment. */
export async function run(
  command: string,
  args: string[],
  runAs: Identity | undefined,
  options: SpawnOptions = {},
): Promise<{ code: number; output: string }> {
  const environment = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name));
  const child = spawn(command, args, {
    ...runAs,
    cwd: "/",
    // Ctrl-C in a terminal is for us: a server interrupted while it starts would be left behind.
    detached: process.platform !== "win32",
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...Object.fromEntries(environment), LC_ALL: "C" },
    windowsHide: true,
    ...options,
  });
  let output = "";
  child.stdout?.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr?.on("data", (chunk) => {
    output += chunk;
  });
  return new Promise((done) => {
    child.on("error", (error) => done({ code: -1, output: error.message }));
    child.on("close", (code) => done({ code: code ?? -1, output }));
  });
}

export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return errorCode(error) === "EPERM";
  }
}
