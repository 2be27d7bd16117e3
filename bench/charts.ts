/** Charts of the figures as SVG, each in a light and a dark form. */
import type { TopLevelSpec } from "vega-lite";
import { caseOf, fastest, type PeerReport, tokensOfCpu } from "./peers/table.ts";
import type { Report } from "./report.ts";

/** A chart: `docs/NAME_light.svg` and `docs/NAME_dark.svg`. */
export interface Chart {
  name: string;
  /** What it shows, for those who cannot see it. */
  alt: string;
  spec: TopLevelSpec;
}

const THEMES = {
  light: { ink: "#1f2328", soft: "#59636e", grid: "#d1d9e0", ours: "#0969da", other: "#9aa4ae" },
  dark: { ink: "#f0f6fc", soft: "#9198a1", grid: "#3d444d", ours: "#4493f8", other: "#6e7681" },
} as const;

const WIDTH = 520, DOCS = new URL("../docs/", import.meta.url);

/** Writes the charts that `report` and `peers` have figures for; returns them. */
export async function writeCharts(report: Report, peers: PeerReport | undefined): Promise<Chart[]> {
  const charts = [opChart(report), ...peers ? peerCharts(peers) : []].filter((chart) => chart !== undefined);
  for (const { name, spec } of charts) {
    for (const theme of ["light", "dark"] as const) {
      await Deno.writeTextFile(new URL(`${name}_${theme}.svg`, DOCS), await svg(spec, theme));
    }
  }
  return charts;
}

/** Markdown for a chart that follows the reader's colours; `docs` is the way to the folder. */
export function picture({ name, alt }: Chart, docs = "docs"): string {
  return `<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="${docs}/${name}_dark.svg">\n` +
    `  <img alt="${alt}" src="${docs}/${name}_light.svg">\n</picture>`;
}

async function svg(spec: TopLevelSpec, theme: keyof typeof THEMES): Promise<string> {
  const { ink, soft, grid, ours, other } = THEMES[theme];
  const axis = { labelColor: soft, titleColor: soft, gridColor: grid, domainColor: grid, tickColor: grid };
  const config = {
    background: "transparent",
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { ...axis, labelLimit: 400, labelFontSize: 12, titleFontWeight: "normal" as const },
    title: { color: ink, anchor: "start" as const, fontSize: 14, subtitleColor: soft },
    legend: { labelColor: soft, titleColor: soft },
    text: { color: ink, fontSize: 11 },
    range: { category: [ours, other] },
  };
  const { parse, View } = await import("vega"), { compile } = await import("vega-lite"); // only what draws needs them
  const view = new View(parse(compile({ ...spec, config }).spec), { renderer: "none" });
  return `${await view.toSVG()}\n`;
}

interface Bar {
  label: string;
  value: number;
  text: string;
  ours: boolean;
}

function bars(title: string, axis: string, values: readonly Bar[]): TopLevelSpec {
  const x = {
    field: "value",
    type: "quantitative" as const,
    title: axis,
  };
  const y = { field: "label", type: "nominal" as const, sort: null, title: null };
  const color = {
    field: "ours",
    type: "nominal" as const,
    legend: null,
    scale: { domain: [true, false] },
  };
  return {
    title,
    width: WIDTH,
    data: { values: values.map((bar) => ({ ...bar })) },
    height: { step: 22 },
    encoding: { y, x },
    layer: [
      { mark: { type: "bar", cornerRadiusEnd: 3, height: { band: 0.7 } }, encoding: { color } },
      { mark: { type: "text", align: "left", dx: 4 }, encoding: { text: { field: "text" } } },
    ],
  };
}

/** The ops that a model's time goes to; the report has all. */
const MAIN_OPS =
  /^(matmul|quantized_matmul|attention (prefill|decode)$|softmax|rms_norm|layer_norm|add|swiglu|qkv_rope|argmax)/;

/** How near each op comes to the device's limit: its best shape. */
function opChart({ ops, origin }: Report): Chart | undefined {
  const best = new Map<string, Bar>();
  for (const { name, shape, share, plain } of ops) {
    const old = best.get(name);
    if (plain || !MAIN_OPS.test(name) || (old && old.value >= 100 * share)) continue;
    const value = 100 * share, label = `${name}  ${shape}`;
    best.set(name, { label, value, text: `${value.toFixed(0)} %`, ours: true });
  }
  if (best.size === 0) return undefined;
  const title = `Ops against the limit of ${origin.device}`;
  const axis = "percent of the device's own copy or multiply-add rate, measured in the same process; best shape";
  const values = [...best.values()].sort((a, b) => b.value - a.value);
  return { name: "bench_ops", alt: title, spec: bars(title, axis, values) };
}

/** Tokens a second of bench-30m, of everyone: by the clock, but of CPU time where other programs had the cores. */
function peerCharts({ lines, origin }: PeerReport): Chart[] {
  const charts = [["decode", "generated tokens"], ["prefill", "prompt tokens"]] as const;
  const busy = origin.isCpu && origin.load > origin.cores;
  return charts.flatMap(([what, unit]): Chart[] => {
    const values = fastest(lines).filter((line) => caseOf(line).includes(what)).flatMap((line): Bar[] => {
      const { peer, backend, dtype } = line, value = busy ? tokensOfCpu(line) : line.tok_s;
      if (!value) return [];
      const label = `${peer} ${backend.replace("node-llama-cpp-", "")}, ${dtype}`;
      return [{ label, value, text: value.toFixed(value < 10 ? 1 : 0), ours: peer === "tensaur" }];
    }).sort((a, b) => b.value - a.value);
    if (values.length < 2) return [];
    const title = `${what === "decode" ? "Decode" : "Prompt"} of bench-30m, ${origin.device}`;
    const axis = `${unit} a second${busy ? " of CPU time of all threads: the machine was busy" : ""}`;
    return [{ name: `bench_${what}`, alt: title, spec: bars(title, axis, values) }];
  });
}
