/** A server that is killed, with all its processes, in the middle of load, and started again. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { type Cluster, clusterUrl, startServer } from "../../src/server/server.js";
import { connect } from "../support/client.js";
import { checkAtRest, type LoadResult, load } from "./load.js";

const database = "postgres";

/** Loads, kills and restarts the server so many times; returns what is wrong after the restarts. */
export async function crashRepeatedly(
  cluster: Cluster,
  url: string,
  options: { times: number; seed: number; log: (line: string) => void },
): Promise<string[]> {
  const problems: string[] = [];
  let current = url;
  for (let time = 1; time <= options.times && problems.length === 0; time++) {
    const seed = options.seed + time;
    const statements = await loadUntilKilled(cluster, current, seed);
    current = await clusterUrl(cluster, await startServer(cluster), database);
    await settlePrepared(current, time % 2 === 0);
    problems.push(...(await checkAtRest(current)).map((line) => `after crash ${time}: ${line}`));
    options.log(
      `crash ${time} of ${options.times}: ${statements} statements, ${problems.length} problems`,
    );
  }
  return problems;
}

async function loadUntilKilled(cluster: Cluster, url: string, seed: number): Promise<number> {
  const ending = new AbortController();
  const progress: LoadResult[] = [];
  const loading = load({
    url,
    seconds: 60,
    seed,
    signal: ending.signal,
    watch: (result) => progress.push(result),
  });
  await sleep(700 + (seed % 7) * 200);
  ending.abort();
  await killAll(cluster);
  // A client may wait for ever for what it had asked of a server that is no more.
  await Promise.race([loading, sleep(3000)]);
  return progress[0]?.statements ?? 0;
}

/** Kills the server with all its processes. */
export async function killAll(cluster: Cluster): Promise<void> {
  const lock = await readFile(join(cluster.data, "postmaster.pid"), "utf8");
  const postmaster = Number(lock.split("\n")[0]);
  const { stdout } = await promisify(execFile)("ps", ["-A", "-o", "pid=,ppid="]);
  const children = stdout
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter(([, parent]) => parent === postmaster)
    .map(([pid]) => pid as number);
  for (const pid of [postmaster, ...children]) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
}

/** Ends the prepared transactions that the crash has left. */
async function settlePrepared(url: string, commit: boolean): Promise<void> {
  const sql = connect(url, { max: 1 });
  for (const { gid } of await sql<{ gid: string }[]>`select gid from pg_prepared_xacts`) {
    await sql.unsafe(`${commit ? "commit" : "rollback"} prepared '${gid}'`);
  }
  await sql.end();
}
