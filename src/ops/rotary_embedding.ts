import { ShapeError } from "../errors.ts";
import { type Kernel, kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/rotary_embedding.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, formatShape, type Tensor } from "../tensor/mod.ts";

const launch: Kernel = kernel("rotary_embedding", wgsl);

/** How {@linkcode rotaryEmbedding} pairs dimensions. */
export interface RotaryOptions {
  /** Pairs (2i, 2i+1), as GPT-J and Cohere, instead of (i, i + rotaryDim/2), as Llama and GPT-NeoX. */
  interleaved?: boolean;
}

/**
 * Rotary position embedding: turns each pair of a head's first dimensions by the angle of its token's position.
 *
 * Source: https://arxiv.org/abs/2104.09864
 *
 * @param x [T, H, headDim] float32
 * @param table [P, 2, rotaryDim / 2] float32, cosines and sines (`RopeTable.table`); dimensions past rotaryDim pass
 * through
 * @param positions [T] uint32, each below P
 * @returns [T, H, headDim] float32
 * @throws {ShapeError} if the table is wider than a head, or there is not one position for each token
 *
 * @example
 * ```ts
 * import { openDevice, ropeConfig, RopeTable, tensor } from "@tensaur/tensaur";
 * import { rotaryEmbedding } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * using rope = new RopeTable(device, ropeConfig({ rope_theta: 10000 }, 2));
 * const x = tensor(device, [1, 0, 1, 0], [2, 1, 2]);
 * using y = rotaryEmbedding(x, rope.table(2), tensor(device, [0, 1], [2], "uint32"));
 * console.log(await y.read()); // 1, 0, cos(1), sin(1)
 * ```
 */
export function rotaryEmbedding(x: Tensor, table: Tensor, positions: Tensor, options: RotaryOptions = {}): Tensor {
  const [tokens = 0, , headDim = 0] = expectShape("rotaryEmbedding", "x", x, ["T", "H", "headDim"]);
  expectDtype("rotaryEmbedding", "x", x, "float32");
  const half = expectTable("rotaryEmbedding", table, positions, tokens, headDim);
  const y = empty(x.device, x.shape);
  launch(x.device, {
    flags: { INTERLEAVED: options.interleaved ?? false },
    overrides: { HEAD_DIM: headDim, HALF: half },
    bindings: { x, table, positions, y },
    grid: [Math.ceil(x.size / Math.max(1, headDim) * Math.ceil(headDim / 2) / 64)],
  });
  return y;
}

/** Checks what rotates `tokens` heads of `headDim`; returns half the rotary dimensions. */
export function expectTable(op: string, table: Tensor, positions: Tensor, tokens: number, headDim: number): number {
  const [, , half = 0] = expectShape(op, "table", table, ["positions", 2, "rotaryDim / 2"]);
  expectShape(op, "positions", positions, [tokens]);
  expectDtype(op, "table", table, "float32");
  expectDtype(op, "positions", positions, "uint32");
  if (2 * half > headDim) {
    throw new ShapeError(
      `Cannot run ${op} as table must be at most [positions, 2, ${Math.floor(headDim / 2)}]: current shape is ${
        formatShape(table.shape)
      }`,
    );
  }
  return half;
}

/** The same in plain loops: what the kernel must equal. */
export function rotaryEmbeddingReference(
  x: Float32Array,
  table: Float32Array,
  positions: ArrayLike<number>,
  headDim: number,
  half: number,
  interleaved = false,
): Float32Array {
  const y = x.slice();
  const heads = x.length / headDim / positions.length;
  for (let head = 0; head < x.length / headDim; head++) {
    const row = 2 * half * positions[Math.floor(head / heads)]!;
    for (let p = 0; p < half; p++) {
      const a = head * headDim + (interleaved ? 2 * p : p), b = interleaved ? a + 1 : a + half;
      const cosine = table[row + p]!, sine = table[row + half + p]!;
      y[a] = x[a]! * cosine - x[b]! * sine;
      y[b] = x[b]! * cosine + x[a]! * sine;
    }
  }
  return y;
}
