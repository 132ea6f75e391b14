import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Trouble } from "../../src/worker/trouble.js";

/** A trouble, and what it has told at a level that people see. */
function troubled(again: number): { trouble: Trouble; told: string[] } {
  const told: string[] = [];
  const trouble = new Trouble((level, message) => {
    if (level !== "debug") told.push(`${level} ${message}`);
  }, again);
  return { trouble, told };
}

const lost = () => Object.assign(new Error("gone"), { code: "ECONNRESET" });

test("the same trouble is told at once, and again after a while", async () => {
  const { trouble, told } = troubled(200);
  for (let n = 0; n < 3; n++) trouble.tell("folding failed", new Error("no"));
  trouble.tell("the heartbeat failed", new Error("no"));
  assert.equal(told, ["warn folding failed", "warn the heartbeat failed"]);
  await sleep(210);
  for (let n = 0; n < 3; n++) trouble.tell("folding failed", new Error("no"), "error");
  assert.equal(told.slice(2), ["error folding failed"]);
});

test("a lost connection is told once by all who notice, and when it is over", async () => {
  const { trouble, told } = troubled(60_000);
  trouble.connected();
  trouble.tell("folding failed", lost());
  trouble.tell("the heartbeat failed", lost());
  trouble.connected();
  assert.equal(told, ["warn connection lost; trying to connect again"]);
  await sleep(1010);
  trouble.connected();
  trouble.connected();
  assert.equal(told.slice(1), ["info connected again"]);
  trouble.tell("folding failed", lost());
  assert.is(told.length, 3);
});

test.run();
