import { MultiBar, Presets } from "cli-progress";
import pc from "picocolors";
import { duration, whole } from "./format.js";

/** How far something is that goes through a number of events. */
export interface Position {
  events: number;
  total: number;
  /** What it waits for, if it does. */
  note?: string | undefined;
}

/** Shows how far something is: a bar on a terminal, otherwise a line now and then. On stderr. */
export interface ProgressBar {
  update(position: Position): void;
  /** A line above the bar. */
  say(text: string): void;
  stop(): void;
}

/** A bar for something that is called `label`. */
export function progressBar(label: string): ProgressBar {
  return process.stderr.isTTY ? drawnBar(label) : spokenBar(label);
}

function drawnBar(label: string): ProgressBar {
  const speed = speedometer();
  const bars = new MultiBar(
    {
      format: `${label} {bar} {percentage}% ${pc.dim("{story}")}`,
      barsize: 24,
      hideCursor: true,
      fps: 10,
      gracefulExit: false,
      linewrap: false,
    },
    Presets.shades_classic,
  );
  const bar = bars.create(1, 0, { story: "" });
  return {
    update: (position) => {
      bar.setTotal(Math.max(position.total, 1));
      bar.update(position.events, { story: story(position, speed(position)) });
    },
    say: (text) => bars.log(`${text}\n`),
    stop: () => {
      bars.update();
      bars.stop();
    },
  };
}

const linesEvery = 5000;

function spokenBar(label: string): ProgressBar {
  const speed = speedometer();
  let told = Date.now();
  return {
    update: (position) => {
      const rate = speed(position);
      if (Date.now() - told < linesEvery) return;
      told = Date.now();
      const percentage = Math.floor((100 * position.events) / Math.max(position.total, 1));
      process.stderr.write(`${label} ${percentage}% ${story(position, rate)}\n`);
    },
    say: (text) => process.stderr.write(`${text}\n`),
    stop: () => {},
  };
}

function story({ events, total, note }: Position, rate: number | undefined): string {
  const parts = [`${whole(events)} of ${whole(total)} events`];
  if (rate !== undefined && rate > 0) {
    parts.push(`${whole(Math.round(rate))}/s`);
    if (events < total) parts.push(`${duration((total - events) / rate)} left`);
  }
  if (note) parts.push(note.split("\n", 1)[0] as string);
  return parts.join(" · ");
}

/** Events a second since the first look: what was done before that, in an earlier attempt, does not count. */
function speedometer(): (position: Position) => number | undefined {
  let first: { at: number; events: number } | undefined;
  return ({ events }) => {
    const at = performance.now();
    first ??= { at, events };
    return at - first.at < 500 ? undefined : (1000 * (events - first.events)) / (at - first.at);
  };
}
