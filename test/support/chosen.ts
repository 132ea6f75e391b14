/** In the place of uvu (compiled.ts): of a file's tests only those whose title contains TEST_ONLY. */
import { createRequire } from "node:module";
import { resolve } from "node:path";

const path = resolve(import.meta.dirname, "../../node_modules/uvu/dist/index.js");
const uvu = createRequire(import.meta.url)(path) as typeof import("uvu");
const words = process.env.TEST_ONLY ?? "";

export const test = chosen(uvu.test);

export const suite: typeof uvu.suite = (name, context) => chosen(uvu.suite(name, context));

function chosen<T>(tests: import("uvu").uvu.Test<T>): import("uvu").uvu.Test<T> {
  const choose: import("uvu").uvu.Test<T> = Object.assign(
    (title: string, work: import("uvu").uvu.Callback<T>) => {
      if (title.includes(words)) tests(title, work);
    },
    tests,
  );
  return choose;
}
