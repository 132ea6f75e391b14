/** docs/schema.sql is what a migrated database holds. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { database } from "./support/database.js";
import { schemaText } from "./support/schema.js";

test("docs/schema.sql is up to date (npm run schema writes it)", async () => {
  const file = join(import.meta.dirname, "../docs/schema.sql");
  const written = (await readFile(file, "utf8")).replace(/^(--.*\n)+\n/, "");
  assert.fixture(written, await schemaText(database()));
});

test.run();
