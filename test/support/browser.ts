/** A real browser, where there is one: Chromium, as its package installs it. */
import { execFile } from "node:child_process";
import { access, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { inflateSync } from "node:zlib";

const names = ["chromium", "chromium-browser", "google-chrome"];

/** The path of the first browser there is. */
export async function findBrowser(): Promise<string | undefined> {
  const folders = (process.env.PATH ?? "").split(delimiter);
  for (const path of names.flatMap((name) => folders.map((folder) => join(folder, name)))) {
    const found = await access(path).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

export interface Seen {
  /** The document as the browser has it. */
  dom: string;
  /** How many pixels have which colour, as `#rrggbb`. */
  colours: Map<string, number>;
}

/** Opens a file. */
export async function look(browser: string, file: string): Promise<Seen> {
  const folder = await mkdtemp(join(tmpdir(), "reporting-rollup-browser-"));
  const run = async (task: string) => {
    const args = `--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run --disable-sync
      --hide-scrollbars --window-size=1000,1200 --user-data-dir=${folder} ${task} file://${file}`;
    const { stdout } = await promisify(execFile)(browser, args.split(/\s+/), { timeout: 60_000 });
    return stdout;
  };
  try {
    const dom = await run("--dump-dom");
    await run(`--screenshot=${join(folder, "seen.png")}`);
    return { dom, colours: pixelColours(await readFile(join(folder, "seen.png"))) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Of a PNG as Chromium writes them: 8 bits a channel, not interlaced. */
function pixelColours(png: Buffer): Map<string, number> {
  const width = png.readUInt32BE(16);
  const channels = png[25] === 6 ? 4 : 3;
  const parts: Buffer[] = [];
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString("latin1", at + 4, at + 8) === "IDAT")
      parts.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
  }
  const data = inflateSync(Buffer.concat(parts));
  const line = width * channels;
  const colours = new Map<string, number>();
  let above = Buffer.alloc(line);
  for (let start = 0; start < data.length; start += line + 1) {
    const row = Buffer.from(data.subarray(start + 1, start + 1 + line));
    unfilter(data[start] as number, row, above, channels);
    for (let x = 0; x < line; x += channels) {
      const colour = `#${row.toString("hex", x, x + 3)}`;
      colours.set(colour, (colours.get(colour) ?? 0) + 1);
    }
    above = row;
  }
  return colours;
}

/** Each byte of a line is the difference to what its neighbours foretell. */
function unfilter(filter: number, row: Buffer, above: Buffer, step: number): void {
  for (let x = 0; x < row.length; x++) {
    const left = x < step ? 0 : (row[x - step] as number);
    const up = above[x] as number;
    const corner = x < step ? 0 : (above[x - step] as number);
    const foretold = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter] as number;
    row[x] = ((row[x] as number) + foretold) & 255;
  }
}

function paeth(left: number, up: number, corner: number): number {
  const estimate = left + up - corner;
  const [a, b, c] = [left, up, corner].map((value) => Math.abs(estimate - value)) as [
    number,
    number,
    number,
  ];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}
