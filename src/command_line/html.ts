/** A report as one HTML file that needs nothing else: charts as SVG, tables, and where the numbers came from. */
import type { EChartsOption } from "echarts";
import {
  type Cell,
  type Report,
  reportSeries,
  reportTable,
  reportTotal,
  type Segment,
  type Summary,
  sourceText,
  summaryTable,
  type Window,
} from "./report.js";
import { left, type Table } from "./terminal/table.js";

const style = `
  body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 960px; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.4rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
  p { margin: .3rem 0; } .total { font-size: 1.1rem; } .note { color: #666; }
  svg { width: 100%; height: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: left; } .right { text-align: right; }`;

/** A metric over time. */
export async function reportPage(
  title: string,
  report: Report,
  businessHours: boolean,
): Promise<string> {
  const { window, plan } = report;
  const empty = report.periods.every(({ count }) => count === "0");
  return page(title, [
    rangeText(window, businessHours),
    `<p class="total">${escaped(reportTotal(report, String))}</p>`,
    empty ? "<p>no events</p>" : await drawn(periodChart(report), 360),
    ...(empty
      ? []
      : [
          "<h2>By weekday and hour</h2>",
          `<p class="note">Events, by the clock of ${escaped(window.timezone)}.</p>`,
          await drawn(heatChart(report.heatMap), 300),
        ]),
    "<h2>Where the numbers come from</h2>",
    `<p>${escaped(sourceText(plan))}</p>`,
    tableText(planCells(plan)),
    "<h2>Numbers</h2>",
    tableText(reportTable(report)),
  ]);
}

/** All agents or inboxes. */
export function summaryPage(title: string, summary: Summary, businessHours: boolean): string {
  return page(title, [
    rangeText(summary.window, businessHours),
    summary.rows.length === 0 ? "<p>no events</p>" : tableText(summaryTable(summary)),
  ]);
}

function page(title: string, parts: string[]): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escaped(title)}</title>
<style>${style}
</style>
</head>
<body>
<h1>${escaped(title)}</h1>
${parts.join("\n")}
</body>
</html>
`;
}

function rangeText({ since, until, timezone }: Window, businessHours: boolean): string {
  const hours = businessHours ? " Time in business hours only." : "";
  return `<p class="note">${escaped(`${since} until ${until}, the end not included; ${timezone}.${hours}`)}</p>`;
}

function planCells(plan: Segment[]): Table {
  return {
    columns: left("from", "until", "source", "why"),
    rows: plan.map(({ starts_at, ends_at, source, reason }) => [
      starts_at,
      ends_at,
      source,
      reason,
    ]),
  };
}

function tableText({ columns, rows }: Table): string {
  const line = (tag: string, cells: string[]) =>
    `<tr>${cells
      .map(
        (cell, n) =>
          `<${tag}${columns[n]?.right ? ' class="right"' : ""}>${escaped(cell)}</${tag}>`,
      )
      .join("")}</tr>`;
  const titles = columns.map(({ title }) => title);
  return `<table>\n${[line("th", titles), ...rows.map((row) => line("td", row))].join("\n")}\n</table>`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

// --- Charts ---------------------------------------------------------------------------------------------

const width = 960;

/** An option of ECharts as SVG. */
async function drawn(option: EChartsOption, height: number): Promise<string> {
  // It takes a while to load, and is needed for pages only.
  const { init } = await import("echarts");
  const chart = init(null, null, { renderer: "svg", ssr: true, width, height });
  try {
    chart.setOption({ animation: false, ...option });
    // Namespaces are addresses, which SVG within HTML does not need.
    return chart.renderToSVGString().replace(/ xmlns(:xlink)?="[^"]*"/g, "");
  } finally {
    chart.dispose();
  }
}

function periodChart(report: Report): EChartsOption {
  const { unit, bars, points } = reportSeries(report);
  return {
    grid: { left: 60, right: 20, top: 40, bottom: 40 },
    xAxis: { type: "category", data: points.map(({ label }) => label) },
    yAxis: { type: "value", name: unit, minInterval: bars ? 1 : 0 },
    series: [
      {
        type: bars ? "bar" : "line",
        // Nothing is a gap.
        data: points.map(({ value }) => value ?? "-"),
        showSymbol: points.length < 100,
      },
    ],
  };
}

const weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

function heatChart(cells: Cell[]): EChartsOption {
  return {
    grid: { left: 60, right: 20, top: 10, bottom: 80 },
    xAxis: { type: "category", data: Array.from({ length: 24 }, (_, hour) => String(hour)) },
    yAxis: { type: "category", data: weekdays, inverse: true },
    visualMap: {
      min: 0,
      max: Math.max(...cells.map(({ count }) => Number(count)), 1),
      orient: "horizontal",
      left: "center",
      bottom: 5,
      inRange: { color: ["#f4f7fb", "#8fb4e3", "#1f4e9c"] },
    },
    series: [
      {
        type: "heatmap",
        data: cells.map(({ weekday, hour, count }) => [hour, weekday, Number(count)]),
        label: { show: true, fontSize: 10 },
      },
    ],
  };
}
