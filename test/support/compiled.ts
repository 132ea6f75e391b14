/**
 * Has a test file, and what it imports, run from what `compile` has made of it: tsx takes half a second of each process.
 * Loaded by test/run.ts before a test file, from there too; the hooks run on a thread of their own.
 */
import { readFile } from "node:fs/promises";
import { type LoadHook, type ResolveHook, register } from "node:module";
import { isMainThread } from "node:worker_threads";

if (isMainThread) register(import.meta.url);

/** The folder into which everything is compiled, and the one with the sources. */
const built = new URL("../../", import.meta.url).href;
const sources = new URL("../", built).href;

export const resolve: ResolveHook = (specifier, context, next) => {
  // One mutation is killed by one test: see chosen.ts.
  if (specifier === "uvu" && process.env.TEST_ONLY !== undefined)
    return next(`${sources}test/support/chosen.ts`, context);
  const ours = specifier.startsWith(".") && context.parentURL?.endsWith(".ts");
  return next(ours ? specifier.replace(/\.js$/, ".ts") : specifier, context);
};

export const load: LoadHook = async (url, context, next) => {
  if (!url.endsWith(".ts") || !url.startsWith(sources)) return next(url, context);
  const file = url.slice(sources.length).replace(/\.ts$/, ".js");
  const source = await readFile(new URL(file, built), "utf8");
  return { format: "module", source, shortCircuit: true };
};
