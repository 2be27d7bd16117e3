/**
 * A model in 16 bits beside its quantized forms, interleaved in one process: CPU time of a load and of a decoded token,
 * bytes of the weights beside what the scheme's own form takes, the most that a load holds.
 *
 *     deno run -A bench/quantized_bench.ts [MODEL] [--only q4_0,nf4] [--rounds 3] [--tokens 16] [--json]
 *
 * MODEL is bench-120m, which bench/peers/setup.ts or make_bench_models.py makes, if none is given.
 */
import {
  BitsAndBytesConfig,
  loadModel,
  type LoadOptions,
  type Model,
  openDevice,
  planModel,
  quantizeModel,
  stream,
} from "../mod.ts";
import type { Spent } from "./ceilings.ts";
import { flagValue, positional } from "./flags.ts";
import { timed } from "./load_bench.ts";
import { benchModels } from "./peers/cache.ts";

/** What one form of the model takes. */
export interface QuantizedResult {
  form: string;
  /** Bytes of the weights on the GPU. */
  weightBytes: number;
  /** The same over what the scheme's own form takes; what is not quantized counts as it is. */
  overTheory: number;
  /** Most bytes held on the GPU while it was loaded, over those of its weights. */
  peak: number;
  /** CPU milliseconds of all threads for a load; the first, which compiles, left out. */
  loadCpu: number;
  /** CPU milliseconds of all threads for a decoded token. */
  tokenCpu: number;
  dispatchesPerToken: number;
}

const FORMS: Readonly<Record<string, LoadOptions>> = {
  float16: {},
  q4_0: {},
  nf4: { quantizationConfig: new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitQuantType: "nf4" }) },
  int8: { quantizationConfig: new BitsAndBytesConfig({ loadIn8bit: true }) },
};
/** Bits of a number in each scheme, scales included. */
const BITS: Readonly<Record<string, number>> = { q4_0: 4.5, q8_0: 8.5, nf4: 4 + 32 / 64, int8: 8 };
const PROMPT = [5, 9, 2, 700];

/** Runs all of `names` in turn, as often as `rounds` says; the least of each counts. */
export async function quantizedBench(
  path: string,
  names: readonly string[],
  rounds: number,
  tokens: number,
): Promise<QuantizedResult[]> {
  const folder = await Deno.makeTempDir({ prefix: "tensaur-quantized-" });
  try {
    if (names.includes("q4_0")) await quantizeModel(path, { to: "q4_0", out: `${folder}/q4_0.gguf` });
    const found: QuantizedResult[] = [];
    await using device = await openDevice();
    const load = (name: string) => {
      const options = { device, ...name !== "q4_0" && { dtype: "float16" as const }, ...FORMS[name] };
      return loadModel(name === "q4_0" ? `${folder}/q4_0.gguf` : path, options);
    };
    using models = new DisposableStack();
    const made = new Map<string, Model>();
    for (const name of names) {
      (await load(name)).dispose(); // compiles
      found.push(await sizes(name, name === "q4_0" ? `${folder}/q4_0.gguf` : path));
    }
    for (let round = 0; round < rounds; round++) {
      for (const [i, name] of names.entries()) {
        device.pool.trim();
        device.pool.resetPeak();
        const before = device.pool.stats.bytesInUse;
        let model: Model | undefined;
        const { cpu } = await timed(async () => void (model = models.use(await load(name))));
        found[i]!.loadCpu = Math.min(found[i]!.loadCpu, cpu);
        found[i]!.peak = (device.pool.stats.peakBytes - before) / found[i]!.weightBytes;
        if (round === rounds - 1) made.set(name, model!);
        else model!.dispose();
      }
    }
    for (const model of made.values()) await decode(model, tokens); // compiles
    for (let round = 0; round < rounds; round++) {
      for (const [i, name] of names.entries()) {
        const { cpu, dispatches } = await decode(made.get(name)!, tokens);
        found[i]!.tokenCpu = Math.min(found[i]!.tokenCpu, cpu / tokens);
        found[i]!.dispatchesPerToken = dispatches / tokens;
      }
    }
    return found;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function sizes(form: string, path: string): Promise<QuantizedResult> {
  const dtype = form === "q4_0" ? undefined : "float16";
  const { weights, byteLength } = await planModel(path, { dtype, ...FORMS[form] });
  const theory = weights.reduce((sum, { shape: [n = 0, k = 1], byteLength, scheme }) => {
    return sum + (BITS[scheme] ? n * k * BITS[scheme] / 8 : byteLength);
  }, 0);
  const none = { peak: 0, loadCpu: Infinity, tokenCpu: Infinity, dispatchesPerToken: 0 };
  return { form, weightBytes: byteLength, overTheory: byteLength / theory, ...none };
}

/** CPU time and kernels of `tokens` tokens after the first. */
async function decode(model: Model, tokens: number): Promise<Spent & { dispatches: number }> {
  const o = { doSample: false, eosTokenId: null } as const, { counters } = model.device.stream;
  const run = async (maxNewTokens: number) => {
    const before = counters.dispatches;
    const { wall, cpu } = await timed(async () => {
      for await (const _ of stream(model, { inputIds: [PROMPT] }, { ...o, maxNewTokens }));
    });
    return { wall, cpu, dispatches: counters.dispatches - before };
  };
  const one = await run(1), all = await run(1 + tokens);
  return { wall: all.wall - one.wall, cpu: all.cpu - one.cpu, dispatches: all.dispatches - one.dispatches };
}

/** The results as a table; rates are over the first form's. */
export function quantizedText(found: readonly QuantizedResult[]): string {
  const [first] = found;
  const lines = found.map((r) =>
    [
      r.form.padEnd(8),
      `${(r.weightBytes / 1e6).toFixed(1)} MB`.padStart(10),
      `${r.overTheory.toFixed(4)} of theory`.padStart(18),
      `peak ${r.peak.toFixed(3)}`.padStart(12),
      `load ${r.loadCpu.toFixed(0)} ms (${(r.loadCpu / first!.loadCpu).toFixed(2)} times)`.padStart(26),
      `token ${r.tokenCpu.toFixed(1)} ms (${(first!.tokenCpu / r.tokenCpu).toFixed(2)} times the rate)`.padStart(36),
      `${r.dispatchesPerToken.toFixed(1)} kernels`.padStart(14),
    ].join("")
  );
  return lines.join("\n");
}

if (import.meta.main) {
  const path = positional(["--only", "--rounds", "--tokens"])[0] ?? `${await benchModels("bench-120m")}/bench-120m`;
  const names = ["float16", ...(flagValue("--only") ?? "q4_0,nf4,int8").split(",")];
  const rounds = Number(flagValue("--rounds") ?? 3), tokens = Number(flagValue("--tokens") ?? 16);
  const found = await quantizedBench(path, names, rounds, tokens);
  console.log(Deno.args.includes("--json") ? JSON.stringify(found) : quantizedText(found));
}
