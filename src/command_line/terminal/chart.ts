import pc from "picocolors";
import plot from "simple-ascii-chart";

/** A value of a chart, none where there is nothing to show, and what stands below it. */
export interface Point {
  label: string;
  value: number | undefined;
}

export interface ChartOptions {
  title: string;
  /** How a value of the vertical axis is written. */
  format: (value: number) => string;
  /** Filled down to the axis, as fits numbers of something; otherwise a line. */
  filled: boolean;
  /** Columns of the screen. */
  width?: number;
}

const rows = 10;

/** A chart with both axes, as text. */
export function chart(points: Point[], { title, format, filled, width }: ChartOptions): string {
  const screen = Math.min(width ?? process.stdout.columns ?? 80, 110);
  const step = niceStep(Math.max(...points.map(({ value }) => value ?? 0), filled ? rows - 1 : 0));
  const ticks = Array.from({ length: rows }, (_, row) => row * step);
  const margin = Math.max(...ticks.map((tick) => format(tick).length)) + 4;
  const columns = Math.max(screen - margin, 20);
  // In steps, for only whole ticks come out evenly.
  const pieces = piecesOf(points, step);
  const text = plot(pieces, {
    width: columns,
    height: rows,
    yRange: [0, rows],
    showTickLabel: true,
    customXAxisTicks: labelled(points, columns),
    fillArea: filled,
    ...(pc.isColorSupported ? { color: pieces.map(() => "ansiCyan" as const) } : {}),
    formatter: (value, { axis }) => {
      if (axis === "x") return points[value]?.label ?? "";
      // The uppermost tick would be written over the one below it.
      return value > rows - 0.5 ? "" : format(value * step);
    },
  });
  const body = text
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => line !== "");
  return [pc.bold(title), ...body].join("\n");
}

/** The points without gaps, in multiples of `step`; each piece ends one further right than its last point, so that this one has a width, too. */
function piecesOf(points: Point[], step: number): [number, number][][] {
  const pieces: [number, number][][] = [];
  let piece: [number, number][] = [];
  for (const [index, { value }] of points.entries()) {
    if (value === undefined) {
      piece = [];
      continue;
    }
    if (piece.length === 0) pieces.push(piece);
    else piece.pop();
    piece.push([index, value / step], [index + 1, value / step]);
  }
  return pieces;
}

/** The distance of the ticks: a round number of which ten are enough. */
function niceStep(maximum: number): number {
  if (maximum <= 0) return 1;
  const rough = maximum / (rows - 0.5);
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const factor =
    [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((nice) => nice * magnitude >= rough) ?? 10;
  return factor * magnitude;
}

/** The points that have room for a label below them. */
function labelled(points: Point[], columns: number): number[] {
  const longest = Math.max(...points.map(({ label }) => label.length), 1);
  const every = Math.max(1, Math.ceil((points.length * (longest + 3)) / columns));
  return [...points.keys()].filter((index) => index % every === 0);
}
