/**
 * Leaves out each rule of the engine in turn and sees that a test fails for it: those of test/mutations.ts.
 *
 *   npm run mutate                  all of them, about 20 minutes
 *   npm run mutate -- lock ledger   those whose rule or change contains one of the words
 */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import Table from "cli-table3";
import { sqlFiles } from "../src/database/migrate.js";
import { type Mutation, mutations } from "./mutations.js";

const root = resolve(import.meta.dirname, "..");
const sources = new Map<string, string>();
for (const file of await sqlFiles(root)) {
  sources.set(file, await readFile(join(root, "sql", file), "utf8"));
}

process.exitCode = await main(process.argv.slice(2));

async function main(words: string[]): Promise<number> {
  const wanted = mutations.filter(
    ({ rule, change }) =>
      words.length === 0 || words.some((word) => `${rule} ${change}`.includes(word)),
  );
  const outdated = wanted.flatMap(missingTexts);
  for (const line of outdated) console.error(line);
  if (outdated.length > 0) return 1;

  const table = new Table({
    head: ["rule", "change", "killed by"],
    style: { head: [], border: [] },
  });
  let survivors = 0;
  for (const mutation of wanted) {
    const killer = await killerOf(mutation);
    if (killer === undefined) survivors++;
    table.push([mutation.rule, mutation.change, killer ?? "SURVIVES"]);
  }
  console.log(table.toString());
  console.log(`${wanted.length - survivors} of ${wanted.length} mutations killed`);
  return survivors > 0 || wanted.length === 0 ? 1 : 0;
}

function missingTexts({ rule, change, edits = {} }: Mutation): string[] {
  return Object.entries(edits).flatMap(([file, pairs]) =>
    pairs
      .filter(([from]) => !sources.get(file)?.includes(from))
      .map(
        ([from]) =>
          `test/mutations.ts, "${rule}: ${change}", must be updated: sql/${file} does not contain\n${from}\n`,
      ),
  );
}

/** The SQL that takes the rule from a migrated database. */
function patch({ schema = "", edits = {} }: Mutation): string {
  const mutated = [...sources]
    .filter(([file]) => file in edits)
    .map(([file, source]) =>
      (edits[file] ?? []).reduce((text, [from, to]) => text.replaceAll(from, () => to), source),
    );
  return [schema, ...mutated].join(";\n");
}

/** The test that fails without the rule; if it does not, shows what went on instead. */
async function killerOf(mutation: Mutation): Promise<string | undefined> {
  const [file, title] = mutation.killedBy;
  const output = await runTests(file, patch(mutation));
  const failed = [...output.matchAll(/^ +FAIL +[^"]*"(.*)"$/gm)].map(([, name]) => name as string);
  const killer = failed.find((name) => name.includes(title));
  const verdict = killer === undefined ? "SURVIVES" : "killed  ";
  console.log(`${verdict} ${mutation.rule}: ${mutation.change}`);
  if (killer === undefined) console.log(output);
  return killer === undefined ? undefined : `${file}: ${killer}`;
}

async function runTests(file: string, sql: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-mutate-"));
  const path = join(folder, "patch.sql");
  await writeFile(path, sql);
  const args = ["--import", "tsx", "test/run.ts", "--pg", "18", "--sql", path, join("test", file)];
  const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk) => {
      output += chunk;
    });
  }
  await new Promise((done) => child.on("close", done));
  await rm(folder, { recursive: true, force: true });
  return output;
}
