/** `deno task bench`: the report, the gate, the comparison with another commit, and the peers. */
import { textTable } from "../src/cli/table.ts";
import { cacheGoals, cacheTable } from "./caches_bench.ts";
import { writeCharts } from "./charts.ts";
import { compare, LEAST_RATIO, verdict } from "./compare.ts";
import { badFlag, flagValue, positional } from "./flags.ts";
import { goalRows, LEAST_SHARE, reached, refused, round } from "./goals.ts";
import { markdown, profileBefore } from "./markdown.ts";
import { peerGoalRows, peerReached } from "./peers/goals.ts";
import { runPeers } from "./peers/run.ts";
import { setupPeers } from "./peers/setup.ts";
import { behind, lineText, type PeerReport, peerRows, rows } from "./peers/table.ts";
import { denoRun, Interrupted, stopOnInterrupt } from "./process.ts";
import { readReport, type Report, RESULTS, withLast, writeReport, writeResult } from "./report.ts";
import { speculationTable } from "./speculation_bench.ts";
import { originOf, runSuite } from "./suite.ts";

const HELP = `Usage: deno task bench [command] [names…] [flags]

  (none), report     run every bench, print, and write BENCHMARKS.md, bench/results/report.json and docs/bench_*.svg
  NAMES, report NAMES
                     run the benches that have one in their name, and only print
  caches             every cache beside the others, at 512 to 16,384 tokens, into the last report and BENCHMARKS.md
  speculation        assisted decoding and prompt lookup beside plain greedy, into the last report and BENCHMARKS.md
  quantized          bench-120m in float16 beside its quantized forms, into the last report and BENCHMARKS.md
  attention          the report of attention alone, for BENCHMARKS.md; only printed with --plain, --quick, --only TEXT
  gate               measure what has a goal; fails under ${100 * LEAST_SHARE} % of one
  --compare WHAT     fails where an op, or a token of tensaur-tiny, is under ${LEAST_RATIO} of its speed in WHAT, a commit or a
                     report.json. A commit, and a report whose commit Git has, is checked out beside and run in turn with
                     this one; where only the file is there, its figures are set against the ceilings of both runs
  peers-setup        install the peers and make their models, in a cache folder (3.5 GB)
  peers [NAMES]      run the peers beside Tensaur, in turn, and write their table into BENCHMARKS.md; with names, run the
                     turns that have one in their name, and only print
  all                report, then peers, in ten minutes; with --resume again, until the peers are through
  render             write BENCHMARKS.md and the charts again from the last results

  --quick            few repetitions, one round of the peers, short lengths
  --limit SECONDS    for report, peers (900; quick 300) and all (590; quick 480): what has not begun by then is left out,
                     what runs is ended soon after
  --rounds N         turns of each, of peers and --compare (3)
  --resume           all, peers without names: keep what the last run at this commit found before it ended, and take
                     the turns that are open, those that failed among them
  --saved [FILE]     gate and --compare: judge the last report, or that one, and measure nothing
  --print            only print: no file of the repository changes (--save and --out write theirs)
  --save FILE        keep the report, or what peers found, there too
  --out FILE         keep what is printed there
  --only TEXT        leave out other shapes

Examples
  deno task bench                        everything of Tensaur's own
  deno task bench softmax norm           two ops
  deno task bench all --quick            in eight minutes, the peers too
  deno task bench report --save main.json && git switch mine && deno task bench --compare main.json
  deno task bench --compare main softmax --only "[1024, 2048]"

Ctrl-C ends what runs; what the peers found until then is kept. The suites are for deno bench as well:
deno bench -A bench/ops [--json]. It ends with 0 where all is well, 1 where a figure or a ratio is too low, 2 where it could
not run.`;

const VALUED = ["--compare", "--save", "--out", "--limit", "--only", "--saved", "--rounds"];
const PLAIN = ["--print", "--quick", "--smoke", "--resume", "--plain", "--help"];
const COMMANDS = [
  "report",
  "caches",
  "speculation",
  "quantized",
  "attention",
  "gate",
  "peers-setup",
  "peers",
  "all",
  "render",
];
const LIMITS = { all: [590, 480], peers: [900, 300] } as const; // seconds, and where it must be quick
const RESERVE = 20; // seconds, for writing
const REPORT_PART = 0.5; // of the limit, when the peers follow
const ATTENTION_LIMIT = 900_000; // ms
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
const quick = ["--quick", "--smoke"].some((flag) => Deno.args.includes(flag));
const printOnly = Deno.args.includes("--print");
const printed: string[] = [];

/** Prints a line with the time since the start, and keeps it for `--out`. */
function say(line: string): void {
  show(line.startsWith(" ") ? line : `${(performance.now() / 1000).toFixed(0).padStart(4)} s  ${line}`);
}

function show(text: string): void {
  console.log(text);
  printed.push(text);
}

async function report(names: readonly string[], until?: number): Promise<Report> {
  const found = await runSuite({ names, quick, only: flagValue("--only"), until, say });
  const { ceilings } = found;
  show(`device's own rates: ${round(ceilings.copy)} GB/s, ${round(ceilings.fma)} GFLOP/s`);
  for (const m of found.models) {
    show(`${m.model} ${m.dtype}: prompt ${round(m.prefill)} tok/s, decode ${round(m.decode)} tok/s`);
  }
  await finish(found, names, async () => writeReport(withLast(found, await readReport())));
  return found;
}

/** The report; with `--resume` not where the last one is of this commit. */
async function reportUnlessThere(until: number): Promise<void> {
  const last = Deno.args.includes("--resume") ? await readReport() : undefined;
  if (last && last.origin.commit === (await originOf()).commit) say("the report is of this commit");
  else await report([], until);
}

/** Keeps what was found where `--save` says, and among the results unless it is of a part, or only to be printed. */
async function finish(found: Report | PeerReport, names: readonly string[], write: () => Promise<void>): Promise<void> {
  const save = flagValue("--save");
  if (save) await Deno.writeTextFile(save, `${JSON.stringify(found, null, 1)}\n`);
  if (names.length || printOnly) return;
  await write();
  await render();
}

async function peers(names: readonly string[], seconds: number): Promise<PeerReport> {
  const origin = await originOf(), resume = Deno.args.includes("--resume"), rounds = numberOf("--rounds");
  const found = await runPeers(origin, { budget: 1000 * seconds, names, quick, resume, rounds, say });
  const table = rows(found.lines), cores = origin.isCpu ? origin.cores : 1;
  show(textTable(peerRows(table)));
  const shown = new Set(table.flatMap(({ ours, theirs }) => [lineText(ours), lineText(theirs)]));
  for (const line of found.lines.map(lineText).filter((line) => !shown.has(line))) show(`alone: ${line}`);
  if (!names.length) show(textTable(peerGoalRows(peerReached(found.lines))));
  const { ceilings, models } = await readReport() ?? {};
  for (const line of behind(table, { lines: found.lines, cores, ceilings, models })) show(line);
  for (const line of found.missing) show(`not measured: ${line}`);
  await finish(found, names, () => writeResult("peers.json", found));
  return found;
}

/** Every cache, every way to draft, or every form of a model, into the last report. */
async function part(name: "caches" | "speculation" | "quantized"): Promise<void> {
  const step = { caches: "caches", speculation: "speculation report", quantized: "quantized models report" }[name];
  const last = await readReport(), found = await runSuite({ names: [step], quick, say });
  const { caches, speculation, quantized, missing } = found;
  if (missing.length) throw new Error(missing.join());
  if (caches) show(`${textTable(cacheTable(caches.results))}\n\n${textTable(cacheGoals(caches.results))}`);
  if (speculation) show(textTable(speculationTable(speculation.results)));
  for (const { text } of found.texts) show(text);
  if (printOnly || !last) return;
  const titles = [name, ...found.texts.map(({ title }) => title.toLowerCase())];
  const texts = [...found.texts, ...last.texts.filter(({ title }) => !titles.includes(title.toLowerCase()))];
  const parts = { ...caches && { caches }, ...speculation && { speculation }, ...quantized && { quantized } };
  await writeReport({ ...last, ...parts, texts, missing: without(last.missing, step) });
  await render();
}

/** What a report left out, but for `step`, which has been run since. */
function without(missing: readonly string[], step: string): string[] {
  return missing.filter((line) => !line.startsWith(`${step}:`));
}

/** The report of attention; the whole one replaces that of the last report. */
async function attention(): Promise<void> {
  const flags = Deno.args.filter((arg) => arg !== "attention" && arg !== "--out" && arg !== flagValue("--out"));
  const { date, commit, load } = await originOf(), first = printed.length;
  show(`${date}, commit ${commit}, ${load.toFixed(1)} busy threads before`);
  await denoRun(new URL("./attention_report.ts", import.meta.url), flags, { limit: ATTENTION_LIMIT, line: show });
  const last = flags.length ? undefined : await readReport();
  if (!last) return;
  const found = { title: "Attention", text: printed.slice(first).join("\n") };
  const texts = last.texts.map((old) => old.title === found.title ? found : old);
  const missing = without(last.missing, "attention report");
  await writeReport({ ...last, texts: texts.includes(found) ? texts : [found, ...texts], missing });
  await render();
}

/** BENCHMARKS.md and the charts from the last results; with `--print` the text alone, on the terminal. */
async function render(): Promise<void> {
  const found = await readReport();
  if (!found) throw new Error("There is no report yet: deno task bench report");
  const beside = await readReport(new URL("peers.json", RESULTS)) as PeerReport | undefined;
  const charts = printOnly ? [] : await writeCharts(found, beside);
  const text = markdown(found, beside, charts, await profileBefore());
  if (printOnly) return show(text);
  await Deno.writeTextFile(new URL("../BENCHMARKS.md", import.meta.url), text);
  say("BENCHMARKS.md is written");
}

/** The report that `--saved` names; undefined without the flag. */
async function savedReport(): Promise<Report | undefined> {
  if (!Deno.args.includes("--saved")) return undefined;
  const path = flagValue("--saved"), found = await readReport(path);
  if (!found) throw new Error(path ? `${path} is not there` : "There is no report yet: deno task bench report");
  return found;
}

/** Whether every figure passes. */
async function gate(): Promise<boolean> {
  const figures = reached(await savedReport() ?? await report(GATED)), failed = refused(figures);
  show(textTable(goalRows(figures)));
  const missing = figures.filter(({ value }) => value === undefined).length;
  if (missing) show(`${missing} not measured`);
  show(
    failed.length ? `${failed.length} under ${100 * LEAST_SHARE} % of their goal` : "No figure is under half its goal",
  );
  return failed.length === 0 && missing < figures.length;
}

/** Whether nothing became slower. */
async function compared(what: string, names: readonly string[]): Promise<boolean> {
  const options = { names, only: flagValue("--only"), rounds: numberOf("--rounds") ?? (quick ? 1 : undefined), say };
  const { how, rows } = await compare(what, { ...options, saved: await savedReport() }), { well, text } = verdict(rows);
  const table = rows.map((
    { op, before, now, ratio },
  ) => [op, before.toPrecision(3), now.toPrecision(3), ratio.toFixed(2)]);
  show(`${how}:\n${textTable([["op", "before", "now", "ratio"], ...table])}\n${text}`);
  return well;
}

function numberOf(flag: string): number | undefined {
  const text = flagValue(flag), value = Number(text);
  if (text === undefined) return undefined;
  if (!(value > 0)) throw new Error(`${flag} must be a number above 0: it is ${text}`);
  return value;
}

/** Runs what the arguments say; returns whether all is well. */
async function main(): Promise<boolean> {
  if (Deno.args.includes("--help")) return show(HELP), true;
  const bad = badFlag(VALUED, PLAIN);
  if (bad) throw new Error(`${bad}: deno task bench --help`);
  const [first = "", ...others] = positional(VALUED), known = COMMANDS.includes(first);
  const command = known ? first : "report", names = known || !first ? others : [first, ...others];
  const what = flagValue("--compare"),
    limit = (of: keyof typeof LIMITS) => numberOf("--limit") ?? LIMITS[of][quick ? 1 : 0];
  stopOnInterrupt();
  if (what !== undefined) return await compared(what, positional(VALUED));
  if (command === "gate") return await gate();
  if (command === "attention") await attention();
  else if (command === "peers-setup") await setupPeers(say);
  else if (command === "peers") await peers(names, limit("peers"));
  else if (command === "caches" || command === "speculation" || command === "quantized") await part(command);
  else if (command === "render") await render();
  else if (command === "all") {
    await reportUnlessThere(1000 * limit("all") * REPORT_PART);
    await peers([], limit("all") - RESERVE - performance.now() / 1000);
  } else await report(names, 1000 * (numberOf("--limit") ?? Infinity));
  return true;
}

let code = 2;
try {
  code = await main() ? 0 : 1;
} catch (error) {
  const [command = ""] = positional(VALUED), on = `. deno task bench ${command} --resume goes on where peers were`;
  if (error instanceof Interrupted) code = 130;
  console.error(
    code === 130 ? `Interrupted${["all", "peers"].includes(command) ? on : ""}` : `error: ${(error as Error).message}`,
  );
}
const out = flagValue("--out");
if (out) await Deno.writeTextFile(out, `${printed.join("\n")}\n`);
Deno.exit(code);
