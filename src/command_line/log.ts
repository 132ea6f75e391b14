import pc from "picocolors";

/** What goes along with a message: SQL names, values as the database gave them. */
export type Fields = Record<string, unknown>;

export type Level = "debug" | "info" | "warn" | "error";

/** Says what a long-running process does. */
export type Log = (level: Level, message: string, fields?: Fields) => void;

/** A log that says nothing. */
export const silent: Log = () => {};

export interface LogOptions {
  /** One JSON document a line. */
  json: boolean;
  write: (line: string) => void;
  /** Also what is only of interest when something is wrong. */
  debug?: boolean;
}

/** A log of one line a message: for a person, or with `json` for a program. */
export function makeLog({ json, write, debug = false }: LogOptions): Log {
  const format = json ? jsonLine : textLine;
  return (level, message, fields = {}) => {
    if (level !== "debug" || debug) write(`${format(level, firstLine(message), fields)}\n`);
  };
}

/** For processes of ours: what libraries write to the console when a connection is lost, stack traces among it, is logged. */
export function divertConsole(log: Log): void {
  console.error = (first: unknown) => log("warn", String(first));
  console.warn = console.error;
  console.trace = (first: unknown) => log("debug", String(first));
}

function jsonLine(level: Level, message: string, fields: Fields): string {
  return JSON.stringify({ time: new Date().toISOString(), level, message, ...fields });
}

const colours = { debug: pc.dim, info: (text: string) => text, warn: pc.yellow, error: pc.red };

function textLine(level: Level, message: string, fields: Fields): string {
  const rest = Object.entries(fields)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) => pc.dim(` ${name}=${plain(value)}`));
  const told = colours[level](level === "info" ? message : `${level}: ${message}`);
  return `${pc.dim(new Date().toISOString())} ${told}${rest.join("")}`;
}

function plain(value: unknown): string {
  const text = typeof value === "string" ? firstLine(value) : JSON.stringify(value);
  return /\s/.test(text) && !text.startsWith('"') ? JSON.stringify(text) : text;
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] as string;
}
