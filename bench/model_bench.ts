/**
 * A causal language model end to end, in a process of its own: load, first token, prompt, decode, and what the host and
 * the kernels take of it.
 *
 *     deno run -A bench/model_bench.ts FOLDER [--dtype float16] [--rounds 3] [--first] [--started EPOCH_MS]
 *
 * `--first` ends after the first token, counted from `--started` (default: this process's start).
 */
import { loadModel, type LoadOptions, type Model, openDevice, startProfile, stream } from "../mod.ts";
import { type Ceilings, measureCeilings } from "./ceilings.ts";
import { replayBench } from "./replay_bench.ts";
import { flagValue } from "./flags.ts";

/** What a model reaches; the best of the rounds. */
export interface ModelResult {
  model: string;
  dtype: string;
  promptTokens: number;
  generatedTokens: number;
  /** Milliseconds. */
  load: number;
  /** Tokens a second. */
  prefill: number;
  /** Tokens a second after the first token. */
  decode: number;
  /** Bytes that the weights take on the GPU; decode reads them once a token. */
  weightBytes: number;
  /** Largest number of bytes held on the GPU. */
  peakBytes: number;
  dispatchesPerToken: number;
  /** Microseconds of the host for a replayed step, 16 steps a submission. */
  hostPerToken: number;
  /** The same where each step is a submission. */
  hostPerSubmission: number;
  /** The kernels' own milliseconds a decoded token, by timestamps; undefined where the device has none. */
  kernelMilliseconds?: number;
  /** The table of those kernels. */
  profile?: string;
  ceilings: Ceilings;
}

/** What a first token takes from the start of its process, in milliseconds. */
export interface FirstTokenResult {
  model: string;
  firstToken: number;
}

const GREEDY = { doSample: false, eosTokenId: null } as const;
const PROMPT = 256, TOKENS = 64, FIRST_PROMPT = 8;

/** A prompt of tokens that depend only on their place. */
function promptOf(model: Model, length: number): number[] {
  return Array.from({ length }, (_, i) => 3 + i * 7 % (model.sizes.vocabSize - 3));
}

interface Run {
  /** Milliseconds to the first token. */
  first: number;
  /** Milliseconds from it to the last. */
  rest: number;
}

async function generate(model: Model, promptTokens: number, tokens: number): Promise<Run> {
  const start = performance.now();
  let first = 0, last = start;
  const inputIds = [promptOf(model, promptTokens)];
  for await (const _ of stream(model, { inputIds }, { ...GREEDY, maxNewTokens: tokens })) {
    last = performance.now();
    first ||= last;
  }
  return { first: first - start, rest: last - first };
}

/** Measures the model in `path`. */
export async function modelBench(path: string, rounds: number, options: LoadOptions = {}): Promise<ModelResult> {
  await using device = await openDevice();
  const ceilings = await measureCeilings(device);
  const loads: number[] = [], runs: Run[] = [];
  const load = async () => {
    const start = performance.now(), model = await loadModel(path, { device, ...options });
    await device.synchronize();
    loads.push(performance.now() - start);
    return model;
  };
  (await load()).dispose(); // compiles
  device.pool.trim();
  using model = await load();
  await generate(model, PROMPT, TOKENS); // compiles
  device.pool.resetPeak();
  const { counters } = device.stream;
  const timed = async () => void runs.push(await generate(model, PROMPT, TOKENS));
  for (let round = 0; round < rounds; round++) await timed();
  const { peakBytes } = device.pool.stats,
    own = device.features.timestampQuery ? await kernelTimes(model, rounds, timed) : {};
  const before = counters.dispatches;
  await generate(model, 1, 1);
  const middle = counters.dispatches;
  await generate(model, 1, 1 + TOKENS);
  const least = (what: (run: Run) => number) => Math.min(...runs.map(what));
  const result = {
    model: path.split("/").at(-1)!,
    dtype: model.quantization ? model.quantization.method : model.dtype,
    promptTokens: PROMPT,
    generatedTokens: TOKENS,
    load: Math.min(...loads),
    prefill: 1000 * PROMPT / least(({ first }) => first),
    decode: 1000 * (TOKENS - 1) / least(({ rest }) => rest),
    weightBytes: model.getMemoryFootprint(),
    peakBytes,
    dispatchesPerToken: (counters.dispatches - middle - (middle - before)) / TOKENS,
    ceilings,
  };
  const { steps } = await replayBench(path, 10, options);
  const host = (count: number) => steps.find(({ steps }) => steps === count)!.least;
  return { ...result, ...own, hostPerToken: host(16), hostPerSubmission: host(1) };
}

/**
 * The kernels' own time of the tokens after a prompt of `PROMPT`: that of the run less that of its prompt. `between` runs
 * without the profiler, in turn, so that what else the machine does falls on both.
 */
async function kernelTimes(
  model: Model,
  rounds: number,
  between: () => Promise<void>,
): Promise<Pick<ModelResult, "kernelMilliseconds" | "profile">> {
  const profiled = async (tokens: number) => {
    const profiler = startProfile(model.device);
    await generate(model, PROMPT, tokens);
    return await profiler.stop();
  };
  let best = Infinity, profile = "";
  for (let round = 0; round < rounds; round++) {
    const prompt = await profiled(1), whole = await profiled(TOKENS);
    await between();
    const each = (whole.gpuMs - prompt.gpuMs) / (TOKENS - 1);
    if (each < best) best = each, profile = `${whole}`;
  }
  return { kernelMilliseconds: best, profile };
}

/** The first token of a short prompt: nothing is loaded before. */
export async function firstToken(path: string, started: number, options: LoadOptions = {}): Promise<FirstTokenResult> {
  await using device = await openDevice();
  using model = await loadModel(path, { device, warmUp: [FIRST_PROMPT], ...options });
  await generate(model, FIRST_PROMPT, 1);
  return { model: path.split("/").at(-1)!, firstToken: Date.now() - started };
}

if (import.meta.main) {
  const [path = new URL("../models/tensaur-tiny", import.meta.url).pathname] = Deno.args;
  const options = { dtype: (flagValue("--dtype") ?? "float16") as LoadOptions["dtype"] };
  const started = Number(flagValue("--started") ?? performance.timeOrigin);
  const found = Deno.args.includes("--first")
    ? await firstToken(path, started, options)
    : await modelBench(path, Number(flagValue("--rounds") ?? 3), options);
  console.log(JSON.stringify(found));
}
