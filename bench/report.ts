/** What a run of the benches found, as `bench/results/report.json` keeps it; and how to read and write that file. */
import type { CacheResult } from "./caches_bench.ts";
import type { Ceilings } from "./ceilings.ts";
import type { DecodeResult } from "./decode_bench.ts";
import type { EncoderResult } from "./encoder_bench.ts";
import type { LoadResult } from "./load_bench.ts";
import type { Measurement } from "./measure.ts";
import type { ModelResult } from "./model_bench.ts";
import type { TracedPair } from "./profiles.ts";
import type { QuantizedResult } from "./quantized_bench.ts";
import type { SpeculationResult } from "./speculation_bench.ts";

/** Where figures come from. */
export interface Origin {
  date: string;
  commit: string;
  /** The GPU as its driver calls it. */
  device: string;
  driver: string;
  /** "deno" (wgpu) or "dawn". */
  provider: string;
  /** Whether the GPU is a program on the CPU: rates are then of a core. */
  isCpu: boolean;
  cpu: string;
  cores: number;
  /** Mean number of busy threads in the minute before: figures of a busy machine are too low. */
  load: number;
  deno: string;
  tensaur: string;
}

/** One op, and whether subgroups were left out. */
export interface OpResult extends Measurement {
  /** Its bench without the ending. */
  file: string;
  plain?: true;
}

/** First tokens of a model, in milliseconds from the start of the process. */
export interface FirstTokens {
  model: string;
  warm: number;
  /** With an empty shader cache. */
  cold?: number;
}

/** All figures of a run. */
export interface Report {
  origin: Origin;
  /** The best that any process of the run measured. */
  ceilings: Ceilings;
  ops: OpResult[];
  models: ModelResult[];
  firstTokens: FirstTokens[];
  encoders: EncoderResult[];
  load?: LoadResult;
  ahead?: DecodeResult;
  /** A decode step before and after. */
  step?: TracedPair;
  /** Every cache beside the others, and where these figures are from. */
  caches?: { origin: Origin; results: CacheResult[] };
  /** Every way to draft, and where these figures are from. */
  speculation?: { origin: Origin; results: SpeculationResult[] };
  /** A model in 16 bits, then its quantized forms. */
  quantized?: QuantizedResult[];
  /** What the longer reports printed. */
  texts: { title: string; text: string }[];
  /** What could not be measured, and why. */
  missing: string[];
}

/** The folder of the results. */
export const RESULTS = new URL("./results/", import.meta.url);

/** The last run's report; undefined where there is none. */
export async function readReport(path: string | URL = new URL("report.json", RESULTS)): Promise<Report | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Keeps `report` among the results, and the traces in it as files of their own. */
export async function writeReport({ step, ...rest }: Report): Promise<void> {
  for (const [name, trace] of Object.entries(step?.traces ?? {})) {
    await Deno.writeTextFile(new URL(name, RESULTS), `${trace}\n`);
  }
  await writeResult("report.json", { ...rest, ...step && { step: { ...step, traces: {} } } });
}

/**
 * The report with what only longer runs measure (caches, speculation, long reports) as `last` has it, where it has none
 * itself; each such part names the run that it is of.
 */
export function withLast(report: Report, last: Report | undefined): Report {
  if (!last) return report;
  const titles = new Set(report.texts.map(({ title }) => title)), { date, commit, load } = last.origin;
  const head = `${date}, commit ${commit}, ${load.toFixed(1)} busy threads before`;
  const texts = last.texts.filter(({ title }) => !titles.has(title)).map(({ title, text }) => ({
    title,
    text: /^\S+, commit /.test(text) ? text : `${head}\n${text}`,
  }));
  const { caches = last.caches, speculation = last.speculation } = report;
  return { ...report, ...caches && { caches }, ...speculation && { speculation }, texts: [...report.texts, ...texts] };
}

/** Keeps `value` among the results. */
export async function writeResult(name: string, value: unknown): Promise<void> {
  await Deno.mkdir(RESULTS, { recursive: true });
  await Deno.writeTextFile(new URL(name, RESULTS), `${JSON.stringify(value, null, 1)}\n`);
}
