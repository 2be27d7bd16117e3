/** BENCHMARKS.md, made of what the benches found; nothing in it is written by hand but the sentences. */
import { markdownTable } from "../src/cli/table.ts";
import { formatBytes } from "../src/gpu/mod.ts";
import { cacheGoals, cacheTable } from "./caches_bench.ts";
import { type Chart, picture } from "./charts.ts";
import { goalRows, kernelShare, LEAST_SHARE, reached, round } from "./goals.ts";
import { loadText } from "./load_bench.ts";
import { peerGoalRows, peerReached } from "./peers/goals.ts";
import { behind, type PeerReport, peerRows, rows } from "./peers/table.ts";
import { pairText, type StepPair, traceFile } from "./profiles.ts";
import { type Origin, type Report, RESULTS } from "./report.ts";
import { speculationTable } from "./speculation_bench.ts";

const BEFORE = "fused_block_lavapipe.txt";

/** The document. `before` is what the profile of a decode step was, if that is kept. */
export function markdown(report: Report, peers: PeerReport | undefined, charts: readonly Chart[], before = ""): string {
  return [
    "# Benchmarks",
    "Made by `deno task bench` and `deno task bench peers`; every number is measured by them, none is written by hand.",
    originText(report.origin),
    ceilingText(report),
    "## Figures to reach",
    `\`deno task bench gate\` fails under ${100 * LEAST_SHARE} % of a goal. The worst figure of a row counts.`,
    markdownTable(goalRows(reached(report))),
    "## Models end to end",
    ...modelText(report),
    ...peers ? peerText(peers, report, charts) : [],
    "## Ops",
    ...charts.filter(({ name }) => name === "bench_ops").map((chart) => picture(chart)),
    opText(report),
    ...cacheText(report),
    ...speculationText(report),
    ...report.texts.flatMap(({ title, text }) => [`## ${title}`, fenced(text)]),
    ...profileText(report, before),
    ...missingText([...report.missing, ...peers?.missing ?? []]),
  ].join("\n\n") + "\n";
}

/** The profile before the fused block, as its measurement was kept. */
export async function profileBefore(): Promise<string> {
  return await Deno.readTextFile(new URL(BEFORE, RESULTS)).catch(() => "");
}

function originText(origin: Origin): string {
  return markdownTable([
    ["where", ""],
    ["device", `${origin.device}${origin.isCpu ? ", a program on the CPU" : ""}`],
    ["driver", origin.driver],
    ["WebGPU", origin.provider === "deno" ? "Deno's (wgpu)" : "npm:webgpu (Dawn)"],
    ["CPU", `${origin.cpu}, ${origin.cores} threads, ${origin.load.toFixed(1)} of them busy before`],
    ["Deno", origin.deno],
    ["Tensaur", `${origin.tensaur}, commit ${origin.commit}`],
    ["date", origin.date],
  ]);
}

function ceilingText({ ceilings, origin }: Report): string {
  const each = origin.isCpu ? " a core" : "";
  const basis = origin.isCpu
    ? "Rates of ops are of CPU time, so of a core, whatever else the machine did; tokens a second are by the clock."
    : "Times are by the clock.";
  return `The device's own limits, measured in the same run: a kernel that only copies moves ${round(ceilings.copy)} ` +
    `GB/s${each}, one that only multiplies and adds reaches ${round(ceilings.fma)} GFLOP/s${each}. ${basis}`;
}

function modelText({ models, firstTokens, encoders, load, ahead }: Report): string[] {
  const percent = (x: number | undefined) => x === undefined ? "–" : `${x.toFixed(0)} %`;
  const table = models.map((m) => {
    const first = firstTokens.find(({ model }) => model === m.model);
    return [
      `${m.model}, ${m.dtype}`,
      `${round(m.load)} ms`,
      first ? `${round(first.warm)} ms${first.cold ? `; ${round(first.cold)} ms cold` : ""}` : "–",
      `${round(m.prefill)} tok/s`,
      `${round(m.decode)} tok/s`,
      `${round(m.weightBytes * m.decode / 1e9)} GB/s`,
      `${round(m.dispatchesPerToken)}`,
      `${round(m.hostPerToken)} µs`,
      percent(kernelShare(m)),
      formatBytes(m.peakBytes),
    ];
  });
  const heads = ["model", "load", "first token", "prompt of 256", "decode", "weights read"];
  const costs = ["dispatches a token", "host a token", "kernels' part", "peak"];
  const sentences = encoders.map((e) =>
    `${e.model} (${e.dtype}) takes ${round(e.sentence)} ms for a sentence of 128 tokens, ${round(e.batch)} ms for 16 ` +
    `sentences of ${e.batchTokens} tokens in all; peak ${formatBytes(e.peakBytes)}.`
  );
  const loop = ahead
    ? [`The loop runs ahead: ${round(ahead.ratio)} times the rate of one that awaits each token (${ahead.model}).`]
    : [];
  return [
    markdownTable([[...heads, ...costs], ...table]),
    "First token: from the start of the process, for a prompt of 8 tokens; cold is with an empty shader cache. Host: what " +
    "encoding and submitting a replayed step costs. Kernels' part: their own time over that of decode by the clock.",
    [...sentences, ...load ? [`${loadText(load)}.`.replace(/^l/, "L")] : [], ...loop].join("\n"),
  ];
}

const BUSY = 0.5; // threads; more than these beside a run make its figures by the clock doubtful

function peerText(peers: PeerReport, { ceilings, models }: Report, charts: readonly Chart[]): string[] {
  const found = rows(peers.lines), { origin } = peers;
  const cores = origin.isCpu ? origin.cores : 1,
    slower = behind(found, { lines: peers.lines, ceilings, models, cores });
  const versions = Object.entries(peers.versions).map(([name, version]) => `${name} ${version}`).join(", ");
  const busy = origin.load > BUSY
    ? " Other programs ran meanwhile, so the ratios by the clock are noise to that extent; those of CPU time count."
    : "";
  const start = peers.warm
    ? " A start on the GPU counts after one that does not: the driver's cache has its shaders."
    : "";
  return [
    "## Beside others",
    `In one run, in turn, ${peers.rounds} ${peers.rounds === 1 ? "time" : "times"}, the fastest of each; ` +
    `${origin.device}, commit ${origin.commit}, ${origin.date}, ${origin.load.toFixed(1)} busy threads before. ` +
    `${versions}. The ratio is how many times as fast Tensaur is, by the clock. ${cpuText(origin)}${busy}${start}`,
    ...charts.filter(({ name }) => name !== "bench_ops").map((chart) => picture(chart)),
    "The least ratio of the rows that a goal names:",
    markdownTable(peerGoalRows(peerReached(peers.lines))),
    "All rows, of the same dtype where Tensaur was run with it:",
    markdownTable(peerRows(found)),
    slower.length
      ? `### Where a peer is ahead\n\n${slower.map((line) => `- ${line}`).join("\n")}`
      : "No peer is ahead.",
  ];
}

function cpuText({ isCpu }: Origin): string {
  return "The ratio of CPU time is theirs over Tensaur's, of all threads of the process" +
    (isCpu
      ? ", the device's own among them; it moves less with what else runs, but counts threads that wait in a loop"
      : "") +
    ". Not every peer's script counts it.";
}

function opText({ ops, origin }: Report): string {
  const each = origin.isCpu ? " a core" : "";
  return markdownTable([
    ["op", "shape", "ms", `GB/s${each}`, `GFLOP/s${each}`, "of the limit"],
    ...ops.map((op) => [
      `${op.name}${op.plain ? ", no subgroups" : ""}`,
      op.shape,
      op.milliseconds.toFixed(3),
      round(op.gigabytesPerSecond),
      op.gigaflopsPerSecond === undefined ? "" : round(op.gigaflopsPerSecond),
      `${(100 * op.share).toFixed(0)} %`,
    ]),
  ]) +
    "\n\nOf the limit: the larger of the op's parts of the two rates above, measured in the same process. More than " +
    "100 % is possible where data stay in a cache.";
}

function profileText({ models, step }: Report, before: string): string[] {
  const blocks = models.flatMap(({ model, dtype, profile }) =>
    profile ? [details(`Kernels of a prompt and of decode, ${model} (${dtype})`, profile)] : []
  );
  if (before) blocks.push(details("Before and after the fused block, as measured then", before.trimEnd()));
  if (step) blocks.unshift(stepText(step));
  return blocks.length ? ["## Profiles", ...blocks] : [];
}

function stepText(step: StepPair): string {
  const link = (when: string) => `[${when}](bench/results/${traceFile(step.model, when)})`;
  return `One decode step of ${step.model} in float16 before the fused block, replayed steps and the present kernels ` +
    `(commit ${step.commit}), and after (${step.now}), in turn in one run: each kernel by GPU timestamps at its fastest of 64 steps. ` +
    `Traces of a step for chrome://tracing and Perfetto: ${link("before")}, ${link("after")}.\n\n${
      fenced(pairText(step))
    }`;
}

function cacheText({ caches }: Report): string[] {
  if (!caches) return [];
  const { origin: { device, commit, date, load }, results } = caches;
  return [
    "## Caches",
    `bench-30m, float16, the steps of all caches in turn; ${device}, commit ${commit}, ${date}, ${
      load.toFixed(1)
    } busy ` +
    "threads before. Bytes are those on the GPU. Of static: the rate by CPU time beside that of the static cache. " +
    "Written to: bytes that a fork takes when it gets its first token.",
    markdownTable(cacheTable(results)),
    markdownTable(cacheGoals(results)),
  ];
}

function speculationText({ speculation }: Report): string[] {
  if (!speculation) return [];
  const { origin: { device, commit, date, load }, results } = speculation;
  return [
    "## Speculation",
    `Assisted decoding and prompt lookup beside plain greedy decoding, in turn in one run, the median of the rounds; the ` +
    `text is the same, or the run fails. ${device}, commit ${commit}, ${date}, ${
      load.toFixed(1)
    } busy threads before.` +
    `${load > BUSY ? " Other programs ran meanwhile, so the ratios by the clock are noise to that extent." : ""} ` +
    "The draft of bench-120m is its embedding, its last norm and its first two layers, what these add to the residual " +
    "stream being halved six times: it says its last token once more, which is what a model of random weights mostly " +
    "does too, so the two agree by construction and the target is the model as it is. Questions are those of " +
    "models/recipe/held_out.txt whose answers copy; tiny is tensaur-tiny, its drafts are tensaur-draft's.",
    markdownTable(speculationTable(results)),
  ];
}

function details(summary: string, text: string): string {
  return `<details>\n<summary>${summary}</summary>\n\n${fenced(text)}\n\n</details>`;
}

function fenced(text: string): string {
  return `\`\`\`text\n${text}\n\`\`\``;
}

function missingText(missing: readonly string[]): string[] {
  return missing.length ? [`## Not measured\n\n${missing.map((line) => `- ${line}`).join("\n")}`] : [];
}
