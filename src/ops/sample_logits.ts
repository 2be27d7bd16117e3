import { ShapeError } from "../errors.ts";
import { type Kernel, kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/sample_logits.wgsl" with { type: "text" };
import { empty, expectDtype, formatShape, type Tensor } from "../tensor/mod.ts";
import type { SamplingSettings } from "./sampling_params.ts";
import { expectLogits, samplingThreads, warpLogitsReference } from "./warp_logits.ts";

const launch: Kernel = kernel("sample_logits", wgsl);
const NONE = 0xffffffff;

/**
 * Draws a token for each row from the distribution of {@linkcode warpLogits}. What is drawn follows from the settings'
 * seed, `step` and the row alone, on every device (but for two tokens whose chances are equal to the last bit or so).
 *
 * Source: https://arxiv.org/abs/1611.01144 (the Gumbel-max trick)
 *
 * @param logits [B, V] float32
 * @param params [1, 8] or [B, 8] uint32 of `samplingParams`: settings for all rows, or one for each
 * @param step [1] or [B] uint32: how many tokens were drawn before, so that each step draws other numbers
 * @returns [B] uint32; 0xffffffff for a row whose logits are all -infinity or NaN, which is never a token
 * @throws {ShapeError} if the settings or steps are for another number of rows
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { sampleLogits, samplingParams } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using params = samplingParams(device, { topK: 1 });
 * using y = sampleLogits(tensor(device, [1, 3, 2], [1, 3]), params, tensor(device, [0], [1], "uint32"));
 * console.log(await y.read()); // Uint32Array(1) [ 1 ]
 * ```
 */
export function sampleLogits(logits: Tensor, params: Tensor, step: Tensor): Tensor {
  const [rows, vocab] = expectLogits("sampleLogits", logits, params);
  expectDtype("sampleLogits", "step", step, "uint32");
  if (step.shape.length !== 1 || (step.size !== 1 && step.size !== rows)) {
    throw new ShapeError(
      `Cannot run sampleLogits as step must be [1] or [${rows}]: current shape is ${formatShape(step.shape)}`,
    );
  }
  const tokens = empty(logits.device, [rows], "uint32");
  launch(logits.device, {
    consts: { WG: samplingThreads(logits.device, vocab) },
    bindings: { logits, params, step, tokens },
    grid: [rows],
  });
  return tokens;
}

/** The same for one row in plain loops: what the kernel must equal. `stream` is the row if rows share `settings`, else 0. */
export function sampleLogitsReference(
  logits: Float32Array,
  settings: SamplingSettings,
  step: number,
  stream: number,
): number {
  const { temperature = 1, seed = 0 } = settings;
  const warped = warpLogitsReference(logits, settings), noise = gumbelNoise(seed, step, stream);
  let best = -Infinity, token = NONE;
  for (let i = 0; i < logits.length; i++) {
    if (warped[i]! <= Math.fround(-1e30)) continue;
    const score = logits[i]! / temperature + noise(i);
    if (score > best) [best, token] = [score, i];
  }
  return token;
}

/**
 * The random numbers that tokens are drawn with, by token: -ln(-ln(1 - u)) with u = (h + 1/2) / 2³², where h is the first
 * word of pcg4d(k₀ ^ token, k₁, k₂, k₃) and k = pcg4d(seed's low word, its high word, step, stream).
 */
export function gumbelNoise(seed: number | bigint, step: number, stream: number): (token: number) => number {
  const bits = BigInt.asUintN(64, BigInt(seed));
  const [x, y, z, w] = pcg4d([Number(bits & 0xffffffffn), Number(bits >> 32n), step, stream]);
  return (token) => -Math.log(-Math.log1p(-((pcg4d([x ^ token, y, z, w])[0] >>> 0) + 0.5) / 2 ** 32));
}

type Words = [number, number, number, number];

/** A hash of four words, https://jcgt.org/published/0009/03/02/ */
export function pcg4d(words: Words): Words {
  const v = words.map((word) => (Math.imul(word, 1664525) + 1013904223) | 0) as Words;
  const mix = () => {
    v[0] = (v[0] + Math.imul(v[1], v[3])) | 0;
    v[1] = (v[1] + Math.imul(v[2], v[0])) | 0;
    v[2] = (v[2] + Math.imul(v[0], v[1])) | 0;
    v[3] = (v[3] + Math.imul(v[1], v[2])) | 0;
  };
  mix();
  for (let i = 0; i < 4; i++) v[i]! ^= v[i]! >>> 16;
  mix();
  return v;
}
