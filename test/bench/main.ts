/**
 * The benchmark: everything side by side on one server, as ratios.
 *
 *   npm run bench                        everything
 *   npm run bench -- W1 B1               some rows
 *   npm run bench -- --pg 15             on the oldest supported PostgreSQL
 *   npm run bench -- --out FILE          the figures as JSON (default .reporting-rollup/bench.json)
 */
import { mkdir, writeFile } from "node:fs/promises";
import { availableParallelism, cpus } from "node:os";
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import pc from "picocolors";
import { packages } from "../support/server.js";
import { findDriver } from "./driver.js";
import { type Database, type Ground, prepareGround } from "./ground.js";
import * as history from "./history.js";
import { type Figures, isMet, type Row, type Summary, summarize } from "./measure.js";
import * as writes from "./writes.js";

const rows: Row[] = [
  { id: "W1", measured: "one event: our overhead ÷ app upsert's", reach: { atMost: 0.6 } },
  { id: "W1p", measured: "the same ÷ a prepared upsert's", reach: { atMost: 1.2 } },
  { id: "W1a", measured: "W1 in append mode", reach: { atMost: 0.35 } },
  { id: "W2", measured: "one hot account, 8 clients: rate ÷ none", reach: { atLeast: 0.6 } },
  { id: "W3", measured: "100,000 events in one statement ÷ none", reach: { atMost: 1.6 } },
  { id: "W4", measured: "200 accounts, 8 clients: rate ÷ app upsert", reach: { atLeast: 1.2 } },
  { id: "W5", measured: "1,000 events later: refresh ÷ ours", reach: { atLeast: 20 } },
  { id: "W6", measured: "300,000 updates that do not count ÷ none", reach: { atMost: 1.3 } },
  { id: "W7", measured: "5,000 deletes in a transaction ÷ none", reach: { atMost: 2 } },
  { id: "B1", measured: "first backfill of a year ÷ day loop", reach: { atMost: 1 } },
  { id: "B1r", measured: "the same again ÷ day loop again", reach: { atMost: 1 } },
  { id: "B2", measured: "B1 ÷ count, sum on one core", reach: { atMost: 15 } },
  { id: "B3", measured: "p99 of inserts beside a backfill ÷ quiet", reach: { atMost: 2 } },
  { id: "R1", measured: "a year's daily series: raw ÷ ours", reach: { atLeast: 200 } },
  { id: "R2", measured: "the same with 10 × the events ÷ 1 ×", reach: { atMost: 1.2 } },
  { id: "R3", measured: "a year by agent: raw ÷ ours", reach: { atLeast: 30 } },
  { id: "R4", measured: "a year's distinct conversations: raw ÷ ours", reach: { atLeast: 100 } },
  { id: "R5", measured: "30 days, 100,000 deltas pending ÷ none", reach: { atMost: 3 } },
  { id: "S1", measured: "our bytes ÷ raw events' bytes", reach: { atMost: 0.15 } },
];

const { values, positionals: wanted } = parseArgs({
  options: {
    out: { type: "string", default: ".reporting-rollup/bench.json" },
    pg: { type: "string", default: "18" },
  },
  allowPositionals: true,
});
const packageName = packages.get(values.pg);
if (packageName === undefined) {
  console.error(`--pg is one of ${[...packages.keys()].join(", ")}.`);
  process.exit(2);
}
const unknown = wanted.filter((id) => !rows.some((row) => row.id === id));
if (unknown.length > 0) {
  console.error(`No such row: ${unknown.join(", ")}. Rows: ${rows.map(({ id }) => id).join(", ")}`);
  process.exit(2);
}

const started = performance.now();
const { driver, name: driverName } = await findDriver();
const ground = await prepareGround(packageName);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => ground.stop().finally(() => process.exit(1)));
}
try {
  await main(ground);
} finally {
  await ground.stop();
}

async function main(ground: Ground): Promise<void> {
  const figures: Figures[] = [];
  let year: Promise<history.History> | undefined;
  const prepared = () => {
    year ??= history.prepareHistory(ground);
    return year;
  };
  const onHistory = (measure: (database: Database) => Promise<Figures[]>) => async () =>
    measure(await (await prepared()).database());
  await measure(figures, ["W1", "W1p", "W1a"], () => writes.singleInserts(ground, driver));
  await measure(figures, ["W2"], () => writes.hotAccount(ground, driver));
  await measure(figures, ["W3"], () => writes.bulkInsert(ground));
  await measure(figures, ["W4"], () => writes.manyAccounts(ground, driver));
  await measure(figures, ["W6"], () => writes.idleUpdate(ground));
  await measure(figures, ["W7"], () => writes.manyDeletes(ground));
  await measure(figures, ["B1", "B1r", "B2"], async () =>
    history.backfill(ground, await prepared()),
  );
  await measure(figures, ["S1"], onHistory(history.size));
  await measure(figures, ["R1", "R3", "R4"], onHistory(history.reads));
  await measure(
    figures,
    ["W5"],
    onHistory((database) => history.freshness(database, driver)),
  );
  await measure(figures, ["B3"], onHistory(history.backfillBesideInserts));
  await measure(figures, ["R5"], onHistory(history.readsBesideDeltas));
  await measure(figures, ["R2"], onHistory(history.readsOfMore));
  await report(figures, ground);
}

async function measure(
  figures: Figures[],
  ids: string[],
  work: () => Promise<Figures[]>,
): Promise<void> {
  if (wanted.length > 0 && !ids.some((id) => wanted.includes(id))) return;
  const before = performance.now();
  const found = await work();
  const seconds = ((performance.now() - before) / 1000).toFixed(0);
  const medians = found.map((figure) => `${figure.id} ${rounded(ratioOf(figure).median)}`);
  console.error(pc.dim(`${medians.join(", ")} (${seconds} s)`));
  figures.push(...found);
}

async function report(figures: Figures[], { serverVersion }: Ground): Promise<void> {
  const results = figures.flatMap((figure) => {
    const row = rows.find(({ id }) => id === figure.id);
    if (row === undefined) return [];
    const ratio = ratioOf(figure);
    return [{ ...row, ...figure, ratio, met: !figure.failed && isMet(row, ratio) }];
  });
  const table = new Table({
    head: ["", "measured", "ratio", "min", "max", "reach", "", "medians"],
    style: { head: [], border: [] },
  });
  results.sort((a, b) => position(a) - position(b));
  for (const { id, measured, ratio, reach, met, variants, unit, notes } of results) {
    const goal = "atMost" in reach ? `≤ ${reach.atMost}` : `≥ ${reach.atLeast}`;
    const medians = Object.entries(variants).map(
      ([name, values]) => `${name} ${rounded(summarize(values).median)} ${unit}`,
    );
    table.push([
      id,
      measured,
      pc.bold(rounded(ratio.median)),
      rounded(ratio.min),
      rounded(ratio.max),
      goal,
      met ? pc.green("met") : pc.red("missed"),
      [...medians, ...(notes ?? [])].join("\n"),
    ]);
  }
  const conditions = {
    server_version: serverVersion,
    cores: availableParallelism(),
    cpu: cpus()[0]?.model ?? "",
    events: history.events,
    driver: driverName,
    seconds: Math.round((performance.now() - started) / 1000),
  };
  console.log(table.toString());
  console.log(
    `PostgreSQL ${conditions.server_version}, ${conditions.cores} cores (${conditions.cpu}), ` +
      `${conditions.events} events in the history, clients: ${conditions.driver}, ${conditions.seconds} s`,
  );
  const out = resolve(values.out);
  await mkdir(dirname(out), { recursive: true });
  await writeFile(out, `${JSON.stringify({ conditions, results }, null, 2)}\n`);
}

function ratioOf({ ratios, ratio }: Figures): Summary {
  const summary = summarize(ratios);
  return { ...summary, median: ratio ?? summary.median };
}

function position({ id }: { id: string }): number {
  return rows.findIndex((row) => row.id === id);
}

function rounded(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
