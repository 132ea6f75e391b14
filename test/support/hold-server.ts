/** Uses the embedded server in the folder given until stdin ends; prints one line when it has it, one with its fate. */
import { open } from "../../src/database/connection.js";
import { acquireEmbedded } from "../../src/server/server.js";

const [folder, packageName] = process.argv.slice(2) as [string, string];
const lines: string[] = [];
const server = await acquireEmbedded(folder, {
  package: packageName,
  log: (line) => lines.push(line),
});
const sql = await open(server.url, { max: 1 });
const [row] = await sql`select pg_postmaster_start_time()::text as started`;
await sql.end();
console.log(JSON.stringify({ port: server.connection?.port, started: row?.started, lines }));
for await (const _ of process.stdin);
console.log(JSON.stringify({ fate: await server.release() }));
