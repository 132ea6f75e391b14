import pc from "picocolors";
import type { UserError } from "../database/errors.js";

/** What a command prints: lines for a person, or with `--json` one document for a program. */
export interface Output {
  json: boolean;
  /** A line for a person, on stdout; nothing with `--json`. */
  line(text?: string): void;
  /** What goes on meanwhile, on stderr; also with `--json`. */
  progress(text: string): void;
  /** The document of `--json`: SQL column names, bigint and numeric as strings. Nothing without. */
  document(value: unknown): void;
  /** An error with its hint: on stderr, or as the document. */
  error(error: UserError): void;
}

/** The output of a command. */
export function makeOutput(json: boolean): Output {
  return {
    json,
    line: (text = "") => {
      if (!json) process.stdout.write(`${text}\n`);
    },
    progress: (text) => {
      process.stderr.write(`${pc.dim(text)}\n`);
    },
    document: (value) => {
      if (json) process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
    },
    error: ({ message, detail, hint }) => {
      if (json) {
        process.stdout.write(`${JSON.stringify({ error: { message, detail, hint } }, null, 2)}\n`);
        return;
      }
      process.stderr.write(`${pc.red("error:")} ${message}\n`);
      if (detail) process.stderr.write(`${detail}\n`);
      if (hint) process.stderr.write(`${pc.dim("hint:")} ${hint}\n`);
    },
  };
}
