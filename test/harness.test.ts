import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { runTestFile } from "./support/file.js";

async function run(name: string) {
  const path = join(import.meta.dirname, "support/fixtures", `${name}.ts`);
  const { outcome, problems } = await runTestFile(path, {}, name === "hangs" ? 0.05 : 1);
  return [outcome.passed, outcome.failed, outcome.skipped, ...problems];
}

const verdicts: Record<string, (number | string)[]> = {
  passing: [2, 0, 1],
  failing: [1, 2, 0, "2 of 3 tests did not pass"],
  "before-throws": [0, 1, 0, "1 of 1 tests did not pass"],
  "after-throws": [0, 1, 0, "it ended before its tests did"],
  forgotten: [1, 1, 0, "forgotten.run() is missing"],
  "no-test": [0, 1, 0, "it ran no test"],
  "never-run": [0, 1, 0, "test.run() is missing", "it ended before its tests did"],
  exits: [0, 1, 0, "it ended before its tests did"],
  hangs: [0, 1, 0, "it ended before its tests did"],
  rejects: [0, 1, 0, "it ended before its tests did"],
  only: [1, 1, 1, "test.only leaves others out"],
};

for (const [name, verdict] of Object.entries(verdicts)) {
  test(`a file that is ${name}`, async () => {
    assert.equal(await run(name), verdict);
  });
}

test.run();
