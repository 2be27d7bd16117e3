import { type Device, type Kernel, kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/warp_logits.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { extent } from "./launching.ts";
import type { SamplingSettings } from "./sampling_params.ts";

const launch: Kernel = kernel("warp_logits", wgsl);
const NEG = Math.fround(-1e30);

/**
 * The logits that are sampled from: divided by the temperature; then -1e30, which stands for -infinity, wherever top-k,
 * top-p and min-p drop a token, each on what the one before left. NaN counts as -infinity.
 *
 * @param logits [B, V] float32
 * @param params [1, 8] or [B, 8] uint32 of `samplingParams`: settings for all rows, or one for each
 * @returns [B, V] float32
 * @throws {ShapeError} if the settings are for another number of rows
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { samplingParams, warpLogits } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using params = samplingParams(device, { temperature: 0.5, topK: 1 });
 * using y = warpLogits(tensor(device, [1, 2], [1, 2]), params);
 * console.log(await y.read()); // Float32Array(2) [ -1e30, 4 ]
 * ```
 */
export function warpLogits(logits: Tensor, params: Tensor): Tensor {
  const [rows, vocab] = expectLogits("warpLogits", logits, params);
  const y = empty(logits.device, logits.shape);
  if (y.size === 0) return y;
  launch(logits.device, {
    consts: { WG: samplingThreads(logits.device, vocab) },
    bindings: { logits, params, width: extent(logits, vocab), y },
    grid: [rows],
  });
  return y;
}

/** Checks logits and the settings for them; returns B and V. */
export function expectLogits(op: string, logits: Tensor, params: Tensor): readonly [number, number] {
  const [rows = 0, vocab = 0] = expectShape(op, "logits", logits, ["B", "V"]);
  expectDtype(op, "logits", logits, "float32");
  expectShape(op, "params", params, [params.shape[0] === 1 ? 1 : rows, 8]);
  expectDtype(op, "params", params, "uint32");
  return [rows, vocab];
}

/** Threads for one row: a GPU has only these to hide the latency of its reads, a CPU pays for each at a barrier. */
export function samplingThreads({ isCpu, limits }: Device, vocab: number): number {
  if (isCpu || vocab < 1024) return 64;
  const roomy = limits.maxComputeInvocationsPerWorkgroup >= 512 && limits.maxComputeWorkgroupStorageSize >= 20_480;
  return roomy && vocab >= 16_384 ? 512 : 256;
}

/** The same for one row in plain loops: what the kernel must equal. */
export function warpLogitsReference(logits: Float32Array, settings: SamplingSettings): Float32Array {
  const { temperature = 1, topK = 0, topP = 1, minP = 0 } = settings;
  const finite = [...logits.keys()].filter((i) => logits[i]! > NEG);
  let kept = finite.toSorted((a, b) => logits[b]! - logits[a]!);
  const top = logits[kept[0]!]!;
  const weight = (i: number) => Math.exp((logits[i]! - top) / temperature);
  const keepFrom = (last: number | undefined) => {
    if (last !== undefined) kept = kept.filter((i) => logits[i]! >= logits[last]!);
  };
  if (topK > 0) keepFrom(kept[topK - 1]);
  if (topP < 1) {
    const mass = kept.reduce((sum, i) => sum + weight(i), 0);
    let above = 0;
    const nucleus = kept.filter((i, place) => {
      const inside = place === 0 || above < topP * mass;
      above += weight(i);
      return inside;
    });
    keepFrom(nucleus.at(-1));
  }
  kept = kept.filter((i) => weight(i) >= minP);
  const y = new Float32Array(logits.length).fill(NEG);
  for (const i of kept) y[i] = logits[i]! / temperature;
  return y;
}
