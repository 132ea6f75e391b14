/** Random load for some seconds; `npm run stress` does the same for longer. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { checkAtRest, load, prepareAccounts } from "../stress/load.js";
import { databaseUrl } from "../support/database.js";

test("random writers, zone changes, rebuilds and folds: exact at every moment, nobody waits or fails", async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  await prepareAccounts(databaseUrl);
  const result = await load({ url: databaseUrl, seconds: 4, seed });
  console.log(JSON.stringify({ seed, ...result }));
  assert.equal(result.problems, []);
  assert.ok(result.statements > 100);
  assert.ok(result.telling > 5);
  assert.equal(await checkAtRest(databaseUrl), []);
});

test.run();
