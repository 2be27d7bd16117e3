/** Logits processors in both forms: what their tests share. */
import { assertEquals } from "@std/assert";
import { DEFAULTS, type GenerationConfigFields } from "../../src/generation/config_fields.ts";
import type { CallOptions, ResolvedOptions } from "../../src/generation/options.ts";
import { RunState } from "../../src/generation/processors/gpu_state.ts";
import { processorsOf, warpersOf } from "../../src/generation/processors/mod.ts";
import type { Processor, ProcessorContext } from "../../src/generation/processors/processor.ts";
import type { Device } from "../../src/gpu/mod.ts";
import { samplingParams, warpLogits } from "../../src/ops/mod.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";

/** Options of generate, as the processors read them. */
export type Options = Partial<GenerationConfigFields & CallOptions & { eosTokenIds: number[] }>;

const NEG = Math.fround(-1e30);

/** Options with their defaults. */
export function resolved(options: Options): ResolvedOptions {
  return {
    ...DEFAULTS,
    topK: 0,
    seed: 0,
    prefillChunkSize: 512,
    eosTokenIds: [],
    padToken: 0,
    stops: [],
    newTokens: 8,
    ...options,
  } as ResolvedOptions;
}

/** The only processor that the options ask for. */
export function only(o: ResolvedOptions, c: ProcessorContext): Processor {
  const all = [...processorsOf(o, c), ...warpersOf(o, c)];
  assertEquals(all.length, 1, `one processor: ${all.map(({ name }) => name)}`);
  return all[0]!;
}

/** What the GPU form gives for `scores` after the prompts and then `fresh` tokens of each row. */
export async function onGpu(
  device: Device,
  o: ResolvedOptions,
  c: ProcessorContext,
  fresh: readonly (readonly number[])[],
  scores: Float32Array,
  unconditional?: Float32Array,
): Promise<Float32Array | undefined> {
  const { gpu, name } = only(o, c), rows = fresh.length, shape = [rows, c.vocabSize];
  const step = tensor(device, [fresh[0]!.length], [1], "uint32");
  using state = new RunState(device, c.prompts, c.vocabSize, 8, step, () => tensor(device, unconditional!, shape));
  using y = tidy(device, () => {
    const x = tensor(device, scores, shape);
    if (["temperature", "topK", "topP", "minP"].includes(name)) {
      const { temperature, topK, topP } = o;
      return warpLogits(x, samplingParams(device, { temperature, topK, topP, minP: o.minP ?? 0 }));
    }
    if (!gpu) return undefined!;
    const process = gpu(state), cuSeqlens = tensor(device, [...Array(rows + 1).keys()], [rows + 1], "uint32");
    for (let i = 0; i < fresh[0]!.length; i++) {
      state.took(tensor(device, fresh.map((row) => row[i]!), [rows], "uint32"), cuSeqlens);
    }
    return process(x);
  });
  step.dispose();
  return y && await y.read() as Float32Array;
}

/** Scores as they compare: -1e30 and less are -infinity. */
export const settled = (scores: Float32Array) => scores.map((x) => x <= NEG ? -Infinity : x);
