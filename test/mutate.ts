/**
 * Leaves out each rule of the engine in turn and sees that a test fails for it: those of test/mutations.ts.
 *
 *   npm run mutate                  all of them
 *   npm run mutate -- lock ledger   those whose rule or change contains one of the words
 */
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import Table from "cli-table3";
import { sqlFiles } from "../src/database/migrate.js";
import { type Mutation, mutations } from "./mutations.js";
import { compile, killTestFiles, runTestFile } from "./support/file.js";
import { startTestServer, type TestServer } from "./support/server.js";

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
  await compile();
  const server = await startTestServer("18");
  const stop = async () => {
    killTestFiles();
    await server.stop();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => stop().then(() => process.exit(1)));
  }
  try {
    for (const mutation of wanted) {
      const killer = await killerOf(server, mutation);
      if (killer === undefined) survivors++;
      table.push([mutation.rule, mutation.change, killer ?? "SURVIVES"]);
    }
  } finally {
    await stop();
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
async function killerOf(server: TestServer, mutation: Mutation): Promise<string | undefined> {
  const [file, title] = mutation.killedBy;
  const output = await runTest(server, file, title, patch(mutation));
  const failed = [...output.matchAll(/^ +FAIL +[^"]*"(.*)"$/gm)].map(([, name]) => name as string);
  const killer = failed.find((name) => name.includes(title));
  const verdict = killer === undefined ? "SURVIVES" : "killed  ";
  console.log(`${verdict} ${mutation.rule}: ${mutation.change}`);
  if (killer === undefined) console.log(output);
  return killer === undefined ? undefined : `${file}: ${killer}`;
}

/** The output of those tests of a file, on databases with this SQL applied. */
async function runTest(
  server: TestServer,
  file: string,
  title: string,
  sql: string,
): Promise<string> {
  const [model, name] = ["template_mutated", "test_mutated"];
  await server.createDatabase(model);
  try {
    await server.run(sql, model);
    await server.createDatabase(name, model);
    const { output } = await runTestFile(join(root, "test", file), {
      TEST_DATABASE_URL: await server.url(name),
      TEST_SERVER_URL: await server.url("postgres", "superuser"),
      TEST_TEMPLATE: model,
      TEST_PG: server.major,
      TEST_ONLY: title,
    });
    return output;
  } finally {
    for (const database of [name, model])
      await server.run(`drop database if exists ${database} with (force)`);
  }
}
