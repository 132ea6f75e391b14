/** What a measurement gives, and how it becomes a verdict. */

/** A row of the benchmark: what is compared, and the ratio to reach. */
export interface Row {
  id: string;
  measured: string;
  reach: { atMost: number } | { atLeast: number };
}

/** The figures of a row, one of each for every round. */
export interface Figures {
  id: string;
  unit: "ms" | "µs" | "/s" | "bytes";
  /** What each variant took or did. */
  variants: Record<string, number[]>;
  ratios: number[];
  /** Where it is not the median of the rounds' ratios. */
  ratio?: number;
  /** Something other than the ratio was not as it must be; the notes tell. */
  failed?: boolean;
  notes?: string[];
}

export interface Summary {
  median: number;
  min: number;
  max: number;
}

export function summarize(values: number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (position: number) => sorted[position] ?? Number.NaN;
  const middle = (sorted.length - 1) / 2;
  return {
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    min: at(0),
    max: at(sorted.length - 1),
  };
}

export function isMet({ reach }: Row, { median }: Summary): boolean {
  return "atMost" in reach ? median <= reach.atMost : median >= reach.atLeast;
}

/**
 * Runs the variants one after the other, round after round, so that whatever else the machine does meets them alike;
 * every other round in reverse. The rounds before the first are for warming up; what comes before each round is not measured.
 */
export async function interleave(
  variants: Record<string, () => Promise<number>>,
  { rounds, warmUp = 1, before }: { rounds: number; warmUp?: number; before?: () => Promise<void> },
): Promise<Record<string, number[]>> {
  const names = Object.keys(variants);
  const figures: Record<string, number[]> = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = -warmUp; round < rounds; round++) {
    await before?.();
    const order = round % 2 === 0 ? names : [...names].reverse();
    for (const name of order) {
      const figure = await variants[name]?.();
      if (round >= 0 && figure !== undefined) figures[name]?.push(figure);
    }
  }
  return figures;
}

/** The ratio of every round. */
export function ratios(
  figures: Record<string, number[]>,
  ratio: (round: Record<string, number>) => number,
): number[] {
  const rounds = Math.min(...Object.values(figures).map((values) => values.length));
  return Array.from({ length: rounds }, (_, round) => {
    const entries = Object.entries(figures).map(([name, values]) => [name, values[round]]);
    return ratio(Object.fromEntries(entries) as Record<string, number>);
  });
}

/** The value that a share of all values does not exceed. */
export function percentile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
}

export function medians(figures: Record<string, number[]>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(figures).map(([name, values]) => [name, summarize(values).median]),
  );
}

/** How long something takes, in milliseconds. */
export async function timed(work: () => PromiseLike<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
