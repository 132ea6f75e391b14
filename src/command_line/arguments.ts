/** What people write on the command line, checked before anything is done: wrong here is exit code 2. */
import { InvalidArgumentError } from "commander";
import { z } from "zod";

const account = z.coerce.number().int().positive().max(2_147_483_647);
const date = z.iso.date().refine((text) => text >= "1970-01-01" && text < "2200-01-01");
const id = z.string().regex(/^\d{1,18}$/);
const count = z.coerce.number().int().min(1);

/** An account's number. */
export function accountArgument(text: string): number {
  return parse(account, text, "It is a whole number above 0, such as 1.");
}

/** The id of an agent or an inbox. */
export function idArgument(text: string): string {
  return parse(id, text, "It is a whole number, such as 7.");
}

/** An account-local date. */
export function dateArgument(text: string): string {
  return parse(date, text, "It is a date from 1970-01-01 to 2199-12-31, such as 2026-02-28.");
}

/** A number of something, from 1 to `max`. */
export function countArgument(max: number): (text: string) => number {
  return (text) => parse(count.max(max), text, `It is a whole number from 1 to ${max}.`);
}

function parse<T>(schema: z.ZodType<T>, text: string, hint: string): T {
  const parsed = schema.safeParse(text.trim() === "" ? undefined : text);
  if (!parsed.success) throw new InvalidArgumentError(hint);
  return parsed.data;
}
