/** Finding a time zone: by a part of its name, or by the offset that zones have now. */
import type { Sql } from "../database/connection.js";

export interface Timezone {
  name: string;
  /** Seconds east of UTC, now. */
  offset: number;
  is_dst: boolean;
  /** The time it is there. */
  local: string;
}

/** All zones an account can have. */
export async function listTimezones(sql: Sql): Promise<Timezone[]> {
  return sql<Timezone[]>`
    select name, extract(epoch from utc_offset)::int as offset, is_dst,
           to_char(now() at time zone name, 'HH24:MI') as local
    from rollup.timezones()
    order by name`;
}

/** The zones that fit: with this offset (`+5:30`, `-8`, `0`, `UTC+2`), or with all these words in their names. */
export function matchTimezones(zones: readonly Timezone[], wanted: string): Timezone[] {
  const offset = parseOffset(wanted);
  const words = normalised(wanted).split(" ").filter(Boolean);
  const fits = (zone: Timezone) =>
    offset === undefined
      ? words.every((word) => normalised(zone.name).includes(word))
      : zone.offset === offset;
  const rank = (zone: Timezone) => {
    const city = normalised(zone.name).split("/").at(-1) ?? "";
    return (
      (isPlace(zone) ? 0 : 2) + (offset === undefined && city.startsWith(words[0] ?? "") ? 0 : 1)
    );
  };
  return zones.filter(fits).sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
}

/** A zone named after a place, rather than an abbreviation or an offset. */
function isPlace({ name }: Timezone): boolean {
  return (
    name === "UTC" ||
    (name.includes("/") && !/^(Etc|SystemV|US|Brazil|Canada|Mexico|Chile)\//.test(name))
  );
}

function normalised(text: string): string {
  return text.toLowerCase().replaceAll("_", " ").trim();
}

/** Seconds east of UTC of what looks like an offset. */
export function parseOffset(text: string): number | undefined {
  const found = /^(?:utc|gmt)?\s*([+\-−]?)\s*(\d{1,2})(?::?([0-5]\d))?$/i.exec(text.trim());
  if (!found) return undefined;
  const [, sign, hours, minutes] = found;
  if (Number(hours) > 15) return undefined;
  const seconds = Number(hours) * 3600 + Number(minutes ?? 0) * 60;
  return sign === "-" || sign === "−" ? -seconds || 0 : seconds;
}

/** An offset as people write it: `UTC+5:30`. */
export function offsetText(seconds: number): string {
  if (seconds === 0) return "UTC";
  const minutes = Math.floor((Math.abs(seconds) % 3600) / 60);
  const hours = Math.floor(Math.abs(seconds) / 3600);
  const rest = minutes === 0 ? "" : `:${String(minutes).padStart(2, "0")}`;
  return `UTC${seconds < 0 ? "-" : "+"}${hours}${rest}`;
}
