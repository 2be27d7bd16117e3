/** Runs benches, each in a process of its own, and gathers what they print. */
import { cpus, loadavg } from "node:os";
import { openDevice } from "../src/gpu/mod.ts";
import { VERSION } from "../src/cli/version.ts";
import { minilm } from "../tests/pipelines/minilm.ts";
import type { CacheResult } from "./caches_bench.ts";
import type { LoadResult } from "./load_bench.ts";
import type { DecodeResult } from "./decode_bench.ts";
import type { EncoderResult } from "./encoder_bench.ts";
import { benchOptions, line, type Measurement } from "./measure.ts";
import type { FirstTokenResult, ModelResult } from "./model_bench.ts";
import { benchModels } from "./peers/cache.ts";
import { denoRun, Interrupted, jsonLines, output, type RunOptions } from "./process.ts";
import { profilePair } from "./profiles.ts";
import { type QuantizedResult, quantizedText } from "./quantized_bench.ts";
import { SHAPES, writeRandomModel } from "./random_model.ts";
import type { FirstTokens, Origin, Report } from "./report.ts";
import type { SpeculationResult } from "./speculation_bench.ts";

/** What to run. */
export interface SuiteOptions {
  /** Parts of the names of what to run; none for everything. */
  names: readonly string[];
  /** Few repetitions. */
  quick: boolean;
  /** Parts of shapes that op benches are limited to. */
  only?: string;
  /** When, on the process's clock in milliseconds, no further step begins, and what runs has a minute. Default: never. */
  until?: number;
  /** Called before each step. */
  say: (line: string) => void;
}

const LOAD = loadavg()[0]!; // before this process does anything
const PLAIN = { TENSAUR_BENCH_PLAIN: "1" };
const PLAIN_FILES = ["attention_bench", "matmul_bench"]; // whose kernels differ by subgroups

const TEXT_LIMIT = 180_000, RANDOM_LIMIT = 240_000, CACHES_LIMIT = 600_000, SPECULATION_LIMIT = 900_000; // ms
const STEP_LIMIT = 120_000, GRACE = 60_000; // ms

/** Reports that print tables of their own: what of, the script, its flags, and those for few repetitions. */
const TEXTS: readonly [title: string, file: string, flags: readonly string[], quickFlags: readonly string[]][] = [
  ["Attention", "attention_report", [], ["--quick"]],
];

/** The folder of the benches. */
export const BENCH = new URL("./", import.meta.url);

/** The model in the repository. */
export const TINY = decodeURIComponent(new URL("../models/tensaur-tiny", import.meta.url).pathname);

/** The op benches by name. */
export function opFiles(): string[] {
  const files = [...Deno.readDirSync(new URL("ops/", BENCH))].map(({ name }) => name.replace(/\.ts$/, ""));
  return files.filter((name) => name.endsWith("_bench")).sort();
}

/** Runs what `options` name. What fails is reported in `missing`, and costs nothing else. */
export async function runSuite(options: SuiteOptions): Promise<Report> {
  const origin = await originOf();
  const report: Report = {
    origin,
    ceilings: { copy: 0, fma: 0 },
    ops: [],
    models: [],
    firstTokens: [],
    encoders: [],
    texts: [],
    missing: [],
  };
  const all = steps(report, options), { names } = options;
  const chosen = all.filter(([name]) => names.length === 0 || names.some((part) => name.includes(part)));
  if (chosen.length === 0) throw new Error(`Nothing is called so; there are ${all.map(([name]) => name).join(", ")}`);
  for (const [name, run] of chosen) {
    options.say(name);
    try {
      if (performance.now() > (options.until ?? Infinity)) throw new Error("no time was left");
      await run();
    } catch (error) {
      if (error instanceof Interrupted) throw error;
      report.missing.push(`${name}: ${(error as Error).message}`);
      options.say(`  ${report.missing.at(-1)}`);
    }
  }
  for (const { ceilings } of [...report.ops, ...report.models]) {
    report.ceilings.copy = Math.max(report.ceilings.copy, ceilings.copy);
    report.ceilings.fma = Math.max(report.ceilings.fma, ceilings.fma);
  }
  return report;
}

type Step = [name: string, run: () => Promise<void>];
type Script = (file: string, args: readonly string[], options?: RunOptions) => Promise<string>;

function steps(report: Report, { quick, only, until = Infinity, say }: SuiteOptions): Step[] {
  const rounds = quick ? 1 : 3, flags = ["--json", ...quick ? ["--quick"] : [], ...only ? ["--only", only] : []];
  const op = (file: string, plain: boolean): Step => [`${file}${plain ? " plain" : ""}`, async () => {
    const text = await script(`ops/${file}`, flags, { env: plain ? PLAIN : {} });
    for (const found of jsonLines<Measurement>(text)) {
      report.ops.push({ ...found, file, ...plain && { plain } });
      say(`  ${line(found)}`);
    }
  }];
  const script: Script = (file, args, options = {}) => {
    const limit = Math.min(options.limit ?? STEP_LIMIT, until + GRACE - performance.now());
    return denoRun(new URL(`${file}.ts`, BENCH), args, { ...options, limit });
  };
  const model = (name: string, dtype: string): Step => [`model ${name} ${dtype}`, async () => {
    const path = await pathOf(name),
      text = await script("model_bench", [path, "--dtype", dtype, "--rounds", `${rounds}`]);
    report.models.push(...jsonLines<ModelResult>(text));
  }];
  const first = (name: string): Step => [`first token ${name}`, async () => {
    report.firstTokens.push(await firstTokens(await pathOf(name), report.origin.isCpu, rounds));
  }];
  return [
    ...opFiles().map((file) => op(file, false)),
    ...PLAIN_FILES.map((file) => op(file, true)),
    model("tensaur-tiny", "float16"),
    model("bench-30m", "float16"),
    ...report.origin.isCpu ? [] : [randomModel(report, script, rounds)],
    first("tensaur-tiny"),
    first("bench-30m"),
    ["encoder all-MiniLM-L6-v2", async () => {
      const found = await minilm();
      if ("missing" in found) throw new Error(found.missing);
      report.encoders.push(...jsonLines<EncoderResult>(await script("encoder_bench", [found.path])));
    }],
    ["decode ahead", async () => {
      const text = await script("decode_bench", [TINY, "64", `${rounds}`]);
      report.ahead = JSON.parse(text) as DecodeResult;
    }],
    ["load", async () => {
      const text = await script("load_bench", [quick ? "64" : "256", `${rounds}`, "--json"]);
      report.load = jsonLines<LoadResult>(text)[0];
    }],
    ["profile of a step", async () => {
      report.step = await profilePair(TINY, { rounds });
    }],
    ["caches", async () => {
      const flags = ["--json", ...quick ? ["--lengths", "512", "--rounds", "1"] : []];
      const text = await script("caches_bench", [await pathOf("bench-30m"), ...flags], { limit: CACHES_LIMIT });
      report.caches = { origin: report.origin, results: jsonLines<CacheResult>(text) };
    }],
    ["speculation report", async () => {
      const flags = ["--json", ...quick ? ["--rounds", "1", "--tokens", "32", "--small"] : []];
      const text = await script("speculation_bench", flags, { limit: SPECULATION_LIMIT });
      report.speculation = { origin: report.origin, results: jsonLines<SpeculationResult>(text) };
    }],
    ["quantized models report", async () => {
      const flags = quick ? ["--json", "--only", "q4_0", "--rounds", "1", "--tokens", "8"] : ["--json"];
      report.quantized = JSON.parse(await script("quantized_bench", flags, { limit: TEXT_LIMIT })) as QuantizedResult[];
      report.texts.push({ title: "Quantized models", text: quantizedText(report.quantized) });
    }],
    ...TEXTS.map(([title, file, flags, quickFlags]): Step => [`${title.toLowerCase()} report`, async () => {
      const text = await script(file, quick ? quickFlags : flags, { limit: TEXT_LIMIT });
      report.texts.push({ title, text: text.trimEnd() });
    }]),
  ];
}

/** A model of a size that only a GPU is for; it is deleted at the end. */
function randomModel(report: Report, script: Script, rounds: number): Step {
  return ["model random-1b float16", async () => {
    const folder = await Deno.makeTempDir({ prefix: "tensaur-random-" }), path = `${folder}/random-1b`;
    try {
      await writeRandomModel(path, SHAPES["1b"]);
      const options = { limit: RANDOM_LIMIT };
      const text = await script("model_bench", [path, "--dtype", "float16", "--rounds", `${rounds}`], options);
      report.models.push(...jsonLines<ModelResult>(text));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }];
}

async function pathOf(name: string): Promise<string> {
  return name === "tensaur-tiny" ? TINY : `${await benchModels()}/${name}`;
}

/** The fastest of some processes that find the kernels in Mesa's shader cache, and one that finds an empty cache. */
async function firstTokens(path: string, isCpu: boolean, rounds: number): Promise<FirstTokens> {
  const run = async (env: Record<string, string>) => {
    const file = new URL("model_bench.ts", BENCH), started = ["--first", "--started", `${Date.now()}`];
    return jsonLines<FirstTokenResult>(await denoRun(file, [path, ...started], { env }))[0]!;
  };
  const { model } = await run({});
  let warm = Infinity;
  for (let round = 0; round < rounds; round++) warm = Math.min(warm, (await run({})).firstToken);
  if (!isCpu) return { model, warm };
  const empty = await Deno.makeTempDir({ prefix: "tensaur-cold-" });
  try {
    return { model, warm, cold: (await run({ MESA_SHADER_CACHE_DIR: empty })).firstToken };
  } finally {
    await Deno.remove(empty, { recursive: true });
  }
}

/** Where and of what the figures are. */
export async function originOf(): Promise<Origin> {
  await using device = await openDevice(benchOptions());
  const { info, provider, isCpu } = device;
  const vulkan = await output("vulkaninfo", ["--summary"], { limit: 20_000 }).catch(() => "");
  const mesa = await output("dpkg-query", ["-W", "-f=Mesa ${Version}", "mesa-vulkan-drivers"]).catch(() => "");
  const nvidia = await output("nvidia-smi", ["--query-gpu=driver_version", "--format=csv,noheader"]).catch(() => "");
  return {
    date: new Date().toISOString(),
    commit: Deno.env.get("TENSAUR_COMMIT") ?? await commitHere().catch(() => "unknown"),
    device: info.description || info.vendor,
    driver: nvidia.trim() || (/driverInfo\s*=\s*(.+)/.exec(vulkan)?.[1] ?? (isCpu && mesa || "unknown")),
    provider,
    isCpu,
    cpu: cpus()[0]?.model ?? Deno.build.arch,
    cores: cpus().length,
    load: LOAD,
    deno: Deno.version.deno,
    tensaur: VERSION,
  };
}

/** The commit, and whether files differ from it: others than what benches write, or none could be resumed. */
async function commitHere(): Promise<string> {
  const git = (...args: string[]) => output("git", args, { cwd: new URL("../", BENCH) });
  const commit = (await git("describe", "--always")).trim(), own = ["BENCHMARKS.md", "bench/results", "docs"];
  const changed = await git(
    "status",
    "--porcelain",
    "--untracked-files=no",
    "--",
    ".",
    ...own.map((path) => `:!${path}`),
  );
  return changed.trim() ? `${commit}-dirty` : commit;
}
