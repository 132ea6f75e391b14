/** Clients that run short statements as fast as they can: pgbench where it is installed, else connections of our own. */
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type Sql } from "../support/client.js";

/** One kind of event: what the application sends for it, each statement committed by itself. */
export interface Script {
  weight: number;
  statements: Statement[];
}

/** With `:name` for random numbers. Prepared once for each connection, or sent as text with the numbers in it. */
export interface Statement {
  sql: string;
  prepared: boolean;
}

export interface Load {
  url: string;
  clients: number;
  scripts: Script[];
  /** The range of each `:name`. */
  numbers: Record<string, [number, number]>;
  /** How long, or how many scripts per client. */
  extent: { seconds: number } | { transactions: number };
  /** Session settings. */
  settings?: Record<string, string>;
}

export type Driver = (load: Load) => Promise<number>;

/** The driver to use, and its name. A driver returns the scripts it ran per second. */
export async function findDriver(): Promise<{ driver: Driver; name: string }> {
  const { code, output } = await run("pgbench", ["--version"], {});
  return code === 0
    ? { driver: withPgbench, name: output.trim() }
    : { driver: withConnections, name: "connections of this process" };
}

async function withPgbench(load: Load): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-pgbench-"));
  try {
    const ranges = Object.entries(load.numbers).map(
      ([name, [from, to]]) => `\\set ${name} random(${from}, ${to})`,
    );
    const scripts: string[] = [];
    for (const [index, { weight, statements }] of load.scripts.entries()) {
      const path = join(folder, `${index}.sql`);
      const names = statements.map((_, nth) => `statement_${index}_${nth}`);
      const lines = statements.flatMap((statement, nth) => inPgbench(statement, `${names[nth]}`));
      await writeFile(path, [...ranges, ...lines, ""].join("\n"));
      scripts.push("-f", `${path}@${weight}`, ...names.flatMap((name) => ["-D", `new_${name}=1`]));
    }
    const extent =
      "seconds" in load.extent
        ? ["-T", String(load.extent.seconds)]
        : ["-t", String(load.extent.transactions)];
    const { hostname, port, username, password, pathname } = new URL(load.url);
    const options = Object.entries(load.settings ?? {}).map(
      ([name, value]) => `-c ${name}=${value}`,
    );
    const { code, output } = await run(
      "pgbench",
      ["-n", "-c", String(load.clients), "-j", "2", ...extent, ...scripts],
      {
        PGHOST: hostname,
        PGPORT: port,
        PGUSER: username,
        PGPASSWORD: password,
        PGDATABASE: pathname.slice(1),
        PGOPTIONS: options.join(" "),
      },
    );
    const rate = /^tps = ([\d.]+) \(without/m.exec(output)?.[1];
    if (code !== 0 || rate === undefined) throw new Error(`pgbench failed: ${output}`);
    return Number(rate);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function inPgbench({ sql, prepared }: Statement, name: string): string[] {
  const line = sql.trim().replace(/\s+/g, " ");
  if (!prepared) return [`${line};`];
  const { text, names } = compile(line);
  return [
    `\\if :new_${name}`,
    `prepare ${name} as ${text};`,
    `\\set new_${name} 0`,
    "\\endif",
    `execute ${name} (${names.map((number) => `:${number}`).join(", ")});`,
  ];
}

async function run(
  command: string,
  args: string[],
  env: Record<string, string>,
): Promise<{ code: number; output: string }> {
  const child = spawn(command, args, { env: { ...process.env, ...env } });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  return new Promise((done) => {
    child.on("error", (error) => done({ code: -1, output: error.message }));
    child.on("close", (code) => done({ code: code ?? -1, output }));
  });
}

async function withConnections(load: Load): Promise<number> {
  const scripts = load.scripts.flatMap(({ weight, statements }) =>
    Array<Statement[]>(weight).fill(statements),
  );
  const sql = connect(load.url, { max: load.clients, settings: load.settings ?? {} });
  try {
    await Promise.all(Array.from({ length: load.clients }, () => sql`select pg_sleep(0.1)`));
    const started = performance.now();
    const deadline = "seconds" in load.extent ? started + load.extent.seconds * 1000 : Infinity;
    const limit = "transactions" in load.extent ? load.extent.transactions : Infinity;
    const done = await Promise.all(
      Array.from({ length: load.clients }, async () => {
        let count = 0;
        for (; count < limit && performance.now() < deadline; count++) {
          const numbers = Object.fromEntries(
            Object.entries(load.numbers).map(([name, range]) => [name, random(range)]),
          );
          for (const statement of scripts[random([0, scripts.length - 1])] ?? []) {
            await send(sql, statement, numbers);
          }
        }
        return count;
      }),
    );
    const total = done.reduce((sum, count) => sum + count, 0);
    return (total * 1000) / (performance.now() - started);
  } finally {
    await sql.end();
  }
}

async function send(
  sql: Sql,
  statement: Statement,
  numbers: Record<string, number>,
): Promise<void> {
  if (statement.prepared) {
    const { text, names } = compile(statement.sql);
    const values = names.map((name) => numbers[name] ?? 0);
    await sql.unsafe(text, values, { prepare: true });
  } else {
    await sql.unsafe(statement.sql.replace(placeholder, (_, name) => String(numbers[name])));
  }
}

const placeholder = /(?<!:):([a-z]+)/g;

function compile(statement: string): { text: string; names: string[] } {
  const names: string[] = [];
  const text = statement.replace(placeholder, (_, name: string) => `$${names.push(name)}`);
  return { text, names };
}

function random([from, to]: [number, number]): number {
  return from + Math.floor(Math.random() * (to - from + 1));
}
