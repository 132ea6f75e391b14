/** How numbers and spans of time look to people. */

/** A whole number, in groups of three digits. */
export function whole(value: string | number | bigint | null | undefined): string {
  if (value === null || value === undefined) return "–";
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** "3 events", "1 event". */
export function counted(value: string | number | bigint, one: string, many = `${one}s`): string {
  return `${whole(value)} ${String(value) === "1" ? one : many}`;
}

/** A number of seconds in its two largest units: "850 ms", "42 s", "3 min 20 s", "2 h 5 min". */
export function duration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const rounded = Math.round(seconds);
  if (rounded < 60) return `${rounded} s`;
  if (rounded < 3600) return twoUnits(rounded, 60, "min", "s");
  if (rounded < 48 * 3600) return twoUnits(Math.round(rounded / 60), 60, "h", "min");
  return twoUnits(Math.round(rounded / 3600), 24, "d", "h");
}

function twoUnits(value: number, base: number, large: string, small: string): string {
  const [whole, rest] = [Math.floor(value / base), value % base];
  return rest === 0 ? `${whole} ${large}` : `${whole} ${large} ${rest} ${small}`;
}
