/** What the tests of models share: the reference models, their forward cases, and how results are compared. */
import { AssertionError } from "@std/assert";
import type { ModelInputs } from "../../src/cache/mod.ts";
import { toBfloat16Bits } from "../../src/tensor/dtype.ts";
import { writeSafetensors } from "../../src/weights/save.ts";
import { type GoldenCase, type GoldenTensor, loadGoldens, readSafetensors, referencePath } from "../reference.ts";

/** Reference models of the supported families whose weights are floats. */
export const REFERENCE_MODELS: readonly string[] = [
  "llama",
  "llama-bf16",
  "llama-f16-sharded",
  "llama-linear-rope",
  "llama-tied-mqa",
  "llama-yarn",
  "llama3-rope",
  "mistral",
  "qwen2",
  "qwen3",
  "gpt2",
  "opt",
  "opt-proj",
  "gemma2",
  "mamba",
  "bert-cls",
  "bert-mlm",
  "bert-ner",
  "bert-qa",
  "bert-sentence",
];

/** A forward pass that transformers made. */
export interface ForwardCase extends GoldenCase {
  inputs: {
    input_ids: number[][];
    attention_mask: number[][];
    token_type_ids?: number[][];
    position_ids?: number[][];
  };
  outputs:
    & {
      [
        name in
          | "logits"
          | "last_logits"
          | "last_hidden_state"
          | "pooler_output"
          | "sentence_embedding"
          | "start_logits"
          | "end_logits"
          | "probabilities"
          | "top5_probabilities"
      ]?: GoldenTensor;
    }
    & { hidden_states?: Record<string, GoldenTensor>; attentions?: Record<string, GoldenTensor> };
  labels?: (string | string[])[];
  top5_ids?: number[][];
  best_start_end?: [number[], number[]];
}

/** The folder of a reference model. */
export function modelPath(name: string): string {
  return referencePath(`data/models/${name}`);
}

/** The forward passes of a reference model; none where the data is not there. */
export async function forwardCases(name: string, kind = "forward"): Promise<ForwardCase[]> {
  const goldens = await loadGoldens<ForwardCase>(`data/models/${name}/goldens`);
  return (goldens?.cases ?? []).filter((c) => c.kind === kind);
}

/** The inputs of a case, as `forward` takes them. */
export function inputsOf({ inputs }: ForwardCase): ModelInputs {
  return {
    inputIds: inputs.input_ids,
    attentionMask: inputs.attention_mask,
    tokenTypeIds: inputs.token_type_ids,
    positionIds: inputs.position_ids,
  };
}

/** The largest difference, relative to the largest magnitude of `want`. */
export function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Infinity;
  let error = 0, largest = 0;
  for (let i = 0; i < want.length; i++) {
    const difference = Math.abs(got[i]! - want[i]!);
    if (!(difference <= error)) error = Number.isNaN(difference) ? Infinity : difference;
    largest = Math.max(largest, Math.abs(want[i]!));
  }
  return error === 0 ? 0 : error / largest;
}

/** Fails unless {@linkcode relativeError} is at most `bound`. */
export function assertWithin(name: string, got: ArrayLike<number>, want: ArrayLike<number>, bound: number): void {
  const error = relativeError(got, want);
  if (error <= bound) return;
  throw new AssertionError({
    message: `${name}: relative error ${error}, at most ${bound} allowed (${got.length} of ${want.length} elements)`,
  });
}

/** The last axis at the real tokens of padded rows [B, S, n], in order. */
export function realRows(values: ArrayLike<number>, mask: readonly (readonly number[])[]): number[] {
  const places = mask.flat();
  const n = values.length / places.length;
  return places.flatMap((real, i) => real ? Array.from({ length: n }, (_, j) => values[i * n + j]!) : []);
}

/** Index of the largest element. */
export function argmaxOf(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}

/** `values` cut into pieces of `n`. */
export function chunked(values: Iterable<number>, n: number): number[][] {
  const all = [...values];
  return Array.from({ length: all.length / n }, (_, i) => all.slice(i * n, (i + 1) * n));
}

/** Softmax of one row. */
export function softmaxOf(values: readonly number[]): number[] {
  const most = Math.max(...values);
  const powers = values.map((v) => Math.exp(v - most));
  const total = powers.reduce((sum, p) => sum + p, 0);
  return powers.map((p) => p / total);
}

/** A float32 copy of a checkpoint in which every matrix holds numbers of `dtype`. */
export async function roundedCopy(from: string, to: string, dtype: "float16" | "bfloat16"): Promise<void> {
  await Deno.copyFile(`${from}/config.json`, `${to}/config.json`);
  const files = [...Deno.readDirSync(from)].filter(({ name }) => /^model.*\.safetensors$/.test(name));
  const tensors = await Promise.all(files.map(({ name }) => readSafetensors(`${from}/${name}`)));
  const small = /A_log$|conv1d\.weight$|relative_attention_bias/; // what stays float32
  const round = (x: Float32Array) =>
    dtype === "float16"
      ? Float32Array.from(Float16Array.from(x))
      : new Float32Array(Uint32Array.from(x, (v) => toBfloat16Bits(v) << 16).buffer);
  await writeSafetensors(
    `${to}/model.safetensors`,
    tensors.flatMap((file) => [...file]).map(([name, { data, shape }]) => {
      const numbers = Float32Array.from(data as Float32Array),
        kept = shape.length < 2 || small.test(name) ? numbers : round(numbers);
      return { name, dtype: "F32" as const, shape, data: new Uint8Array(kept.buffer as ArrayBuffer) };
    }),
  );
}
