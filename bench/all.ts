/** `deno task bench`: the report, the gate, the comparison with another commit, and the peers. */
import { textTable } from "../src/cli/table.ts";
import { writeCharts } from "./charts.ts";
import { compare, LEAST_RATIO, slower } from "./compare.ts";
import { flagValue, positional } from "./flags.ts";
import { goalRows, LEAST_SHARE, reached, refused, round } from "./goals.ts";
import { markdown, profileBefore } from "./markdown.ts";
import { runPeers } from "./peers/run.ts";
import { setupPeers } from "./peers/setup.ts";
import { behind, type PeerReport, peerRows, rows } from "./peers/table.ts";
import { denoRun } from "./process.ts";
import { readReport, type Report, RESULTS, writeResult } from "./report.ts";
import { originOf, runSuite } from "./suite.ts";

const HELP = `Usage: deno task bench [command] [--quick] [name…]

  (none), report     run every bench, print, and write BENCHMARKS.md, bench/results/report.json and docs/bench_*.svg;
                     with names, run those that have one in their name, and only print
  attention          the report of attention alone; --long, --plain
  gate               measure what has a goal; fails under ${100 * LEAST_SHARE} % of one. --saved: judge the last report
  peers-setup        install the peers and make their models, in a cache folder (3 GB at most)
  peers              run the peers beside Tensaur, in turn, and write their table into BENCHMARKS.md
  all                report, then peers, within --limit seconds (default 480)
  --compare WHAT     fails where an op is under ${LEAST_RATIO} of its speed in WHAT, a commit or a report.json. A commit, and a
                     report whose commit Git has, is checked out beside and run in turn with this one; where only the
                     file is there, its figures are set against the ceilings that both runs measured
  render             write BENCHMARKS.md and the charts again from the last results

  --quick            few repetitions              --save FILE   keep the report there too
  --limit SECONDS    for peers and all            --out FILE    keep what is printed there

The suites are for deno bench as well: deno bench -A bench/ops [--json].`;

const VALUED = ["--compare", "--save", "--out", "--limit", "--only"];
const COMMANDS = ["report", "attention", "gate", "peers-setup", "peers", "all", "render"];
const LIMIT = 480, RESERVE = 20; // seconds
const REPORT_PART = 0.5; // of the limit, when the peers follow
const printed: string[] = [];

/** Prints a line with the time since the start, and keeps it for `--out`. */
function say(line: string): void {
  const text = line.startsWith(" ") ? line : `${(performance.now() / 1000).toFixed(0).padStart(4)} s  ${line}`;
  show(text);
}

function show(text: string): void {
  console.log(text);
  printed.push(text);
}

async function report(names: readonly string[], until?: number): Promise<Report> {
  const quick = ["--quick", "--smoke"].some((flag) => Deno.args.includes(flag));
  const found = await runSuite({ names, quick, only: flagValue("--only"), until, say });
  const { ceilings } = found;
  show(`device's own rates: ${round(ceilings.copy)} GB/s, ${round(ceilings.fma)} GFLOP/s`);
  for (const m of found.models) {
    show(`${m.model} ${m.dtype}: prompt ${round(m.prefill)} tok/s, decode ${round(m.decode)} tok/s`);
  }
  const save = flagValue("--save");
  if (save) await Deno.writeTextFile(save, JSON.stringify(found, null, 1));
  if (names.length) return found;
  await writeResult("report.json", found);
  await render();
  return found;
}

async function peers(names: readonly string[], seconds: number): Promise<PeerReport> {
  const found = await runPeers(await originOf(), { budget: 1000 * seconds, names, say });
  const table = rows(found.lines);
  show(textTable(peerRows(table)));
  for (const line of behind(table)) show(line);
  if (names.length) return found;
  await writeResult("peers.json", found);
  await render();
  return found;
}

/** BENCHMARKS.md and the charts from the last results. */
async function render(): Promise<void> {
  const found = await readReport();
  if (!found) throw new Error("There is no report yet: deno task bench report");
  const beside = await readReport(new URL("peers.json", RESULTS)) as PeerReport | undefined;
  const text = markdown(found, beside, await writeCharts(found, beside), await profileBefore());
  await Deno.writeTextFile(new URL("../BENCHMARKS.md", import.meta.url), text);
  say("BENCHMARKS.md is written");
}

/** Whether every figure passes. */
async function gate(): Promise<boolean> {
  const saved = Deno.args.includes("--saved") ? await readReport() : undefined;
  const figures = reached(saved ?? await report(GATED)), failed = refused(figures);
  show(textTable(goalRows(figures)));
  show(
    failed.length ? `${failed.length} under ${100 * LEAST_SHARE} % of their goal` : "No figure is under half its goal",
  );
  return failed.length === 0;
}

const GATED = [
  "matmul_bench",
  "rms_norm",
  "layer_norm",
  "softmax",
  "attention_bench",
  "model",
  "first",
  "encoder",
  "load",
];

/** Whether nothing became slower. */
async function compared(what: string, names: readonly string[]): Promise<boolean> {
  const { how, rows } = await compare(what, { names, say }), bad = slower(rows);
  const table = rows.map(({ op, before, now, ratio }) => [op, round(before), round(now), ratio.toFixed(2)]);
  show(`${how}:\n${textTable([["op", "before", "now", "ratio"], ...table])}`);
  show(
    bad.length
      ? `${bad.length} of ${rows.length} under ${LEAST_RATIO}`
      : `None of ${rows.length} is under ${LEAST_RATIO}`,
  );
  return rows.length > 0 && bad.length === 0;
}

/** Runs what the arguments say; returns whether all is well. */
async function main(): Promise<boolean> {
  const [first = "", ...others] = positional(VALUED), known = COMMANDS.includes(first);
  const command = known ? first : "report", names = known || !first ? others : [first, ...others];
  const what = flagValue("--compare"), limit = Number(flagValue("--limit") ?? LIMIT);
  if (Deno.args.includes("--help")) return show(HELP), true;
  if (what !== undefined) return await compared(what, positional(VALUED));
  if (command === "gate") return await gate();
  if (command === "attention") {
    const flags = Deno.args.filter((arg) => arg.startsWith("--"));
    show((await denoRun(new URL("./attention_report.ts", import.meta.url), flags, { limit: 600_000 })).trimEnd());
  } else if (command === "peers-setup") await setupPeers(say);
  else if (command === "peers") await peers(names, limit);
  else if (command === "render") await render();
  else await report(names, command === "all" ? 1000 * limit * REPORT_PART : undefined);
  if (command === "all") await peers([], limit - RESERVE - performance.now() / 1000);
  return true;
}

const well = await main();
const out = flagValue("--out");
if (out) await Deno.writeTextFile(out, printed.join("\n") + "\n");
if (!well) Deno.exit(1);
