/**
 * `tensaur bench`: how fast a model reads and writes here.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { Command, Option } from "commander";
import { AbortError, ValueError } from "../errors.ts";
import { stream } from "../generation/mod.ts";
import { formatBytes } from "../gpu/mod.ts";
import type { Model } from "../models/mod.ts";
import { currentCommit } from "./commit.ts";
import { Interrupt } from "./interrupt.ts";
import {
  addDeviceOptions,
  addModelOptions,
  addOutputOptions,
  type DeviceFlags,
  type ModelFlags,
  type UiFlags,
  whole,
} from "./options.ts";
import { openSession, type Session } from "./session.ts";
import { csvTable, markdownTable } from "./table.ts";
import { Ui } from "./ui.ts";
import { VERSION } from "./version.ts";

interface BenchFlags extends ModelFlags, DeviceFlags, UiFlags {
  promptTokens: number;
  generatedTokens: number;
  batchSize: number;
  runs: number;
  output: "md" | "json" | "csv";
}

/** Least, mean and standard deviation of several runs. */
export interface Spread {
  min: number;
  mean: number;
  sd: number;
}

interface Run {
  /** Seconds. */
  firstToken: number;
  /** Seconds from the first token to the last. */
  rest: number;
}

const EXAMPLES = `
Examples:
  tensaur bench
  tensaur bench -m owner/name -p 512 -g 128 -n 5
  tensaur bench --output json > bench.json

Runs random tokens, greedily and without an end of sequence, once to warm up and then so often as --runs says. Prompt
speed is the prompt's tokens by the time to the first token; generation speed is that of the tokens after it.`;

/** The command. */
export function benchCommand(): Command {
  const command = new Command("bench")
    .description("measure prompt and generation speed")
    .option("-p, --prompt-tokens <n>", "tokens of each prompt", whole(1), 256)
    .option("-g, --generated-tokens <n>", "tokens to generate", whole(2), 64)
    .option("-b, --batch-size <n>", "prompts at a time", whole(1), 1)
    .option("-n, --runs <n>", "runs that count", whole(1), 3)
    .addOption(
      new Option("--output <form>", "a Markdown table, JSON or CSV").choices(["md", "json", "csv"]).default("md"),
    )
    .addHelpText("after", EXAMPLES);
  addOutputOptions(addDeviceOptions(addModelOptions(command)));
  return command.action(run);
}

async function run(flags: BenchFlags): Promise<void> {
  const ui = new Ui(flags);
  using interrupt = new Interrupt();
  using session = await openSession(flags, ui, { signal: interrupt.signal, task: "causal-lm" });
  const { model, device } = session;
  checkLength(model, flags);
  const runs: Run[] = [];
  await interrupt.lift(() => measure(model, flags)); // warm-up: kernels compile
  ui.bar.clear();
  device.pool.resetPeak();
  for (let i = 0; i < flags.runs; i++) {
    ui.detail(`run         ${i + 1} of ${flags.runs}`);
    runs.push(await measure(model, flags, interrupt.signal));
  }
  const result = await resultOf(session, flags, runs);
  if (flags.json || flags.output === "json") ui.printJson(result);
  else ui.print(`${flags.output === "csv" ? csvTable([flat(result)]) : asMarkdown(result)}\n`);
}

function checkLength(model: Model, { promptTokens, generatedTokens }: BenchFlags): void {
  const most = model.sizes.maxPositionEmbeddings;
  if (promptTokens + generatedTokens <= most) return;
  throw new ValueError(
    `Cannot bench as -p and -g together must be at most the model's ${most} positions: current values are ` +
      `${promptTokens} and ${generatedTokens}`,
  );
}

/** One run over prompts of tokens that depend only on their place. */
async function measure(model: Model, flags: BenchFlags, signal?: AbortSignal): Promise<Run> {
  const { promptTokens, generatedTokens, batchSize } = flags;
  const inputIds = Array.from(
    { length: batchSize },
    (_, row) =>
      Array.from({ length: promptTokens }, (_, i) => (row * promptTokens + i) * 2_654_435_761 % model.sizes.vocabSize),
  );
  const options = { maxNewTokens: generatedTokens, doSample: false, eosTokenId: null, signal };
  const start = performance.now();
  let first = 0, last = start;
  for await (const _ of stream(model, { inputIds }, options)) {
    last = performance.now();
    first ||= last;
    if (signal) await setImmediate(); // Ctrl-C is heard only when the event loop turns
  }
  if (!first) throw new AbortError("Cannot measure as Ctrl-C was pressed");
  return { firstToken: (first - start) / 1000, rest: (last - first) / 1000 };
}

type Result = Awaited<ReturnType<typeof resultOf>>;

async function resultOf({ name, model, device }: Session, flags: BenchFlags, runs: readonly Run[]) {
  const { promptTokens, generatedTokens, batchSize } = flags;
  const { adapter, provider, limits } = device.explain();
  return {
    model: name,
    modelType: String(model.config.model_type),
    dtype: model.dtype,
    promptTokens,
    generatedTokens,
    batchSize,
    runs: runs.length,
    promptTokensPerSecond: spread(runs.map((r) => batchSize * promptTokens / r.firstToken)),
    generationTokensPerSecond: spread(runs.map((r) => batchSize * (generatedTokens - 1) / r.rest)),
    timeToFirstToken: spread(runs.map((r) => r.firstToken)),
    peakGpuBytes: device.pool.stats.peakBytes,
    device: { ...adapter, provider, isCpu: device.isCpu, maxBufferSize: limits.maxBufferSize },
    system: { deno: Deno.version.deno, v8: Deno.version.v8, os: Deno.build.os, arch: Deno.build.arch },
    tensaur: { version: VERSION, commit: await currentCommit() ?? null },
    date: new Date().toISOString(),
  };
}

/** The figures by their paths: `{ a: { b: 1 } }` → `{ "a.b": 1 }`. */
function flat(value: object, prefix = ""): Record<string, unknown> {
  return Object.assign(
    {},
    ...Object.entries(value).map(([key, part]) =>
      typeof part === "object" && part !== null ? flat(part, `${prefix}${key}.`) : { [prefix + key]: part }
    ),
  );
}

function asMarkdown(r: Result): string {
  const row = (what: string, { min, mean, sd }: Spread, scale = 1) => [
    what,
    (min * scale).toFixed(1),
    `${(mean * scale).toFixed(1)} ± ${(sd * scale).toFixed(1)}`,
  ];
  const table = markdownTable([
    [`${r.model}, ${r.dtype}${r.batchSize > 1 ? `, batch of ${r.batchSize}` : ""}`, "min", "mean ± sd"],
    row(`prompt of ${r.promptTokens}, tok/s`, r.promptTokensPerSecond),
    row(`generation of ${r.generatedTokens}, tok/s`, r.generationTokensPerSecond),
    row("time to first token, ms", r.timeToFirstToken, 1000),
    ["peak GPU memory", "", formatBytes(r.peakGpuBytes)],
  ]);
  const commit = r.tensaur.commit ? ` (${r.tensaur.commit.slice(0, 12)})` : "";
  const { device, system } = r;
  const gpu = `${device.description || "unknown GPU"}${device.isCpu ? ", a CPU driver" : ""}, ${device.provider}`;
  return `${table}\n\n${r.runs} runs on ${gpu}; Deno ${system.deno}, ${system.os} ${system.arch}; ` +
    `Tensaur ${r.tensaur.version}${commit}; ${r.date.slice(0, 10)}`;
}

/** Least, mean and sample standard deviation. */
export function spread(values: readonly number[]): Spread {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { min: Math.min(...values), mean, sd: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0 };
}
