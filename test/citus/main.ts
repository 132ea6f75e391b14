/**
 * Runs the tests that need a Citus cluster: a coordinator, which CITUS_DATABASE_URL names, and two workers or more. They make a
 * database of their own on all nodes. Without the variable they are skipped.
 *
 *   CITUS_DATABASE_URL=postgres://postgres@coordinator:5432/postgres npm run test:citus
 */
import { resolve } from "node:path";
import { compile, runTestFile } from "../support/file.js";

if (!process.env.CITUS_DATABASE_URL) {
  console.log("skipped: no CITUS_DATABASE_URL names the coordinator of a Citus cluster");
} else {
  await compile();
  const { outcome, problems, output } = await runTestFile(
    resolve(import.meta.dirname, "distributed.ts"),
    {},
  );
  const { passed, failed, skipped } = outcome;
  console.log(output);
  for (const problem of problems) console.log(problem);
  console.log(`Citus: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
}
