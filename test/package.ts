/**
 * Packs the package, installs it into an empty project and runs the demo there as a newcomer would, once for every
 * Node asked for: `npm run test:package -- 20 24`, each fetched as the npm package `node`; without arguments, this one.
 */
import { execFile } from "node:child_process";
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "..");
const expected = [
  /\d{3},\d{3} events of/,
  /rows of daily totals/,
  /conversations resolved one by one/,
  /\d┤/,
  /Exact: [\d,]+ rows/,
  /Three things to try/,
];

const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-package-test-"));
// Its server may run as another user.
await chmod(folder, 0o755);
try {
  await run("npm", ["pack", "--pack-destination", folder], { cwd: root });
  const tarball = (await readdir(folder)).find((name) => name.endsWith(".tgz"));
  if (tarball === undefined) throw new Error("npm pack made no tarball");
  const wanted = process.argv.slice(2);
  for (const node of wanted.length > 0 ? wanted : [undefined]) {
    await tryOut(join(folder, tarball), node);
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}

/** Installs the tarball beside the Node of this major, and runs the demo with it. */
async function tryOut(tarball: string, node: string | undefined): Promise<void> {
  const project = await mkdtemp(join(folder, "project-"));
  await chmod(project, 0o755);
  await writeFile(join(project, "package.json"), '{ "private": true }');
  const env: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: "1", DATABASE_URL: "" };
  if (node !== undefined) {
    await run("npm", ["install", "--no-audit", "--no-fund", `node@${node}`], { cwd: project });
    const { stdout } = await run("npx", ["node", "-p", "process.execPath"], { cwd: project });
    env.PATH = `${dirname(stdout.trim())}:${env.PATH}`;
  }
  await run("npm", ["install", "--no-audit", "--no-fund", tarball], { cwd: project, env });
  const { stdout: version } = await run("node", ["--version"], { cwd: project, env });
  const started = Date.now();
  const { stdout } = await run("npx", ["reporting-rollup", "demo"], { cwd: project, env });
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  for (const pattern of expected) {
    if (!pattern.test(stdout)) throw new Error(`${pattern} is missing from:\n${stdout}`);
  }
  const entry = 'import("reporting-rollup").then((m) => console.log(Object.keys(m).sort().join()))';
  const { stdout: exported } = await run("node", ["-e", entry], { cwd: project, env });
  if (!exported.includes("startWorker")) throw new Error(`exported: ${exported}`);
  console.log(`ok   Node ${version.trim()}: installed, and the demo ran in ${seconds} s`);
}
