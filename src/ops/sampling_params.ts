import { ValueError } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import { type Tensor, tensor } from "../tensor/mod.ts";

const WORDS = 8;

/** How tokens are drawn; a stage that is left out keeps every token. */
export interface SamplingSettings {
  /** What logits are divided by, above 0. Default 1. */
  temperature?: number;
  /** Keep this many of the largest logits, and those equal to the last of them; 0 keeps all. Default 0. */
  topK?: number;
  /** Keep the most probable tokens until their probabilities sum up to this, ties with the last one too; 1 keeps all. */
  topP?: number;
  /** Keep tokens at least this many times as probable as the most probable one; 0 keeps all. Default 0. */
  minP?: number;
  /** Seed of the random numbers, 64 bits. Default 0. */
  seed?: number | bigint;
}

/**
 * Puts sampling settings on the device, for `sampleLogits` and `warpLogits`. Kernels and recordings read them there:
 * `params.write(samplingWords(settings))` changes them for the steps that follow.
 *
 * @param settings for all rows, which then draw independent numbers from one seed; or one for each row, whose numbers
 * follow from its own seed alone, wherever in a batch it lies
 * @returns [1, 8] or [B, 8] uint32
 * @throws {ValueError} a value out of range
 *
 * @example
 * ```ts
 * import { openDevice } from "@tensaur/tensaur";
 * import { samplingParams, samplingWords } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using params = samplingParams(device, { temperature: 0.7, topK: 50, topP: 0.9, seed: 1n });
 * params.write(samplingWords({ temperature: 0.8, minP: 0.1 }));
 * ```
 */
export function samplingParams(
  device: Device,
  settings: SamplingSettings | readonly SamplingSettings[] = {},
): Tensor {
  const words = samplingWords(settings);
  return tensor(device, words, [words.length / WORDS, WORDS], "uint32");
}

/**
 * What {@linkcode samplingParams} writes: 8 words for each settings, which are temperature, topP and ln(minP) as float32
 * bits, topK, and the halves of the seed.
 *
 * @throws {ValueError} a value out of range
 */
export function samplingWords(settings: SamplingSettings | readonly SamplingSettings[]): Uint32Array {
  const rows: readonly SamplingSettings[] = Array.isArray(settings) ? settings : [settings];
  const words = new Uint32Array(WORDS * rows.length), floats = new Float32Array(words.buffer);
  for (const [row, { temperature = 1, topK = 0, topP = 1, minP = 0, seed = 0 }] of rows.entries()) {
    check("temperature", "a finite number above 0", temperature > 0 && temperature < Infinity, temperature);
    check("topK", "a whole number from 0", Number.isSafeInteger(topK) && topK >= 0, topK);
    check("topP", "a number from 0", topP >= 0, topP);
    check("minP", "a number from 0 to 1", minP >= 0 && minP <= 1, minP);
    check("seed", "an integer", typeof seed === "bigint" || Number.isSafeInteger(seed), seed);
    const at = WORDS * row, bits = BigInt.asUintN(64, BigInt(seed));
    floats[at] = Math.max(temperature, 1e-30); // f32 has no normal reciprocal of less
    words[at + 1] = Math.min(topK, 0xffffffff);
    floats[at + 2] = topP;
    floats[at + 3] = Math.max(Math.log(minP), -200); // exp(-200) is 0 in f32
    words[at + 4] = Number(bits & 0xffffffffn);
    words[at + 5] = Number(bits >> 32n);
  }
  return words;
}

function check(name: string, rule: string, holds: boolean, value: unknown): void {
  if (holds) return;
  throw new ValueError(`Cannot sample as ${name} must be ${rule}: current value is ${value}`, {
    hint: name === "temperature" ? "Use doSample: false, or argmax(), for the most probable token." : undefined,
  });
}
