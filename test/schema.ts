/** Writes docs/schema.sql: what a migrated database holds. `npm run schema` */
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { connect } from "./support/client.js";
import { schemaText } from "./support/schema.js";
import { startTestServer, template } from "./support/server.js";

const file = resolve(import.meta.dirname, "../docs/schema.sql");
const head = `-- The schema rollup of a migrated database, to read: tables, views, functions and what they are for.
-- Written by npm run schema; what makes it is migrations/ and, for the definitions of functions and views, sql/.

`;

const server = await startTestServer("18");
try {
  const sql = connect(await server.url(template), { max: 1 });
  const text = await schemaText(sql);
  await sql.end();
  await mkdir(join(file, ".."), { recursive: true });
  await writeFile(file, head + text);
} finally {
  await server.stop();
}
