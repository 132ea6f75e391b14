/** The files of sql/ can be read from the first to the last: each uses only what it or one before it defines. */
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { sqlFiles } from "../src/database/migrate.js";

const root = resolve(import.meta.dirname, "..");

/** The text without comments and without string constants, which only speak of things. */
function code(text: string): string {
  return text.replace(/--.*|'(?:[^']|'')*'/g, (found) => (found.startsWith("--") ? "" : "''"));
}

const definition =
  /^create (?:or replace )?(?:function|procedure|aggregate|view|operator) rollup\.(\w+)/gm;

function names(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map(([, name]) => name as string))];
}

/** `file uses name, which other defines`, for everything used before it is defined. */
function usedTooEarly(files: { file: string; text: string }[]): string[] {
  const definedIn = new Map<string, string>();
  for (const { file, text } of files) {
    for (const name of names(text, definition)) {
      if (!definedIn.has(name)) definedIn.set(name, file);
    }
  }
  return files.flatMap(({ file, text }) =>
    names(code(text), /\brollup\.(\w+)/g)
      .filter((name) => (definedIn.get(name) ?? file) > file)
      .map((name) => `${file} uses ${name}, which ${definedIn.get(name)} defines`),
  );
}

test("each file uses only what it or one before it defines", async () => {
  const files = await Promise.all(
    (await sqlFiles(root)).map(async (file) => ({
      file,
      text: await readFile(join(root, "sql", file), "utf8"),
    })),
  );
  const all = files.flatMap(({ text }) => names(text, definition));
  assert.ok(all.length > 50, `${all.length} definitions were found`);
  assert.equal(usedTooEarly(files), []);
});

test("what comes too early is found, in a body too, but not in a comment or a message", () => {
  const first = `create or replace function rollup.first() returns int language plpgsql as $$
begin
  -- Not rollup.third().
  raise notice 'it''s rollup.fourth()';
  return rollup.second() + rollup.first();
end $$;`;
  const second = "create view rollup.third as select 1; create view rollup.fourth as select 1;\n";
  const files = [
    { file: "10_first.sql", text: first },
    { file: "20_second.sql", text: `${second}create function rollup.second() returns int …` },
  ];
  assert.equal(usedTooEarly(files), ["10_first.sql uses second, which 20_second.sql defines"]);
});

test.run();
