import CliTable from "cli-table3";
import pc from "picocolors";

/** A column: its title, and whether its cells are numbers. */
export interface Column {
  title: string;
  right?: boolean;
}

const none = "";
const plain = {
  ...{ top: none, "top-mid": none, "top-left": none, "top-right": none },
  ...{ bottom: none, "bottom-mid": none, "bottom-left": none, "bottom-right": none },
  ...{ left: none, "left-mid": none, mid: none, "mid-mid": none, right: none, "right-mid": none },
  middle: "  ",
};

/** Columns of words. */
export function left(...titles: string[]): Column[] {
  return titles.map((title) => ({ title }));
}

/** Columns of numbers. */
export function right(...titles: string[]): Column[] {
  return titles.map((title) => ({ title, right: true }));
}

export interface Table {
  columns: Column[];
  rows: string[][];
}

/** A table without lines, as text. */
export function table({ columns, rows }: Table): string {
  const drawn = new CliTable({
    head: columns.map(({ title }) => pc.bold(title)),
    colAligns: columns.map(({ right }) => (right ? "right" : "left")),
    chars: plain,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  drawn.push(...rows);
  return trimmed(drawn.toString());
}

/** The first rows of a table, and how many there are besides. */
export function firstRows({ columns, rows }: Table, shown = 20): string {
  const first = table({ columns, rows: rows.slice(0, shown) });
  if (rows.length <= shown) return first;
  return `${first}\n${pc.dim(`… and ${rows.length - shown} more; --json shows all`)}`;
}

/** Names and values, one a line. */
export function facts(rows: [name: string, value: string][]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `  ${pc.dim(name.padEnd(width))}  ${value}`).join("\n");
}

function trimmed(text: string): string {
  return text
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => line !== "")
    .join("\n");
}
