import { ShapeError } from "../errors.ts";
import { type Device, type Kernel, kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/qkv_rope.wgsl" with { type: "text" };
import { empty, expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";
import { rmsNormReference } from "./rms_norm.ts";
import { expectTable, rotaryEmbeddingReference, type RotaryOptions } from "./rotary_embedding.ts";

const launch: Kernel = kernel("qkv_rope", wgsl);

/** How the rows of {@linkcode qkvRope} are made up, and what is done to them. */
export interface QkvRopeOptions extends RotaryOptions {
  /** Query heads. */
  heads: number;
  /** Key and value heads. */
  kvHeads: number;
  /** Dimensions of a head. */
  headDim: number;
  /** [headDim] float32: weight of an RMS norm over each query head, before it is rotated (Qwen3). */
  qNorm?: Tensor;
  /** The same for key heads; both or none. */
  kNorm?: Tensor;
  /** `eps` of these norms. Default 1e-6. */
  eps?: number;
}

/** A packed projection, and how its parts are made. */
export interface PackedProjection extends QkvRopeOptions {
  /** [T, (heads + 2·kvHeads)·headDim] float32: queries, keys, values. */
  qkv: Tensor;
  /** [P, 2, rotaryDim / 2] float32; without one nothing is rotated. */
  table?: Tensor;
  /** [T] uint32. */
  positions?: Tensor;
}

/** What {@linkcode qkvRope} makes. */
export interface QueryKeyValue<T = Tensor> {
  /** [T, heads, headDim] */
  q: T;
  /** [T, kvHeads, headDim] */
  k: T;
  /** [T, kvHeads, headDim] */
  v: T;
}

/** Where {@linkcode qkvRopeStore} puts keys and values. */
export interface KvTarget {
  /** [B, kvHeads, capacity, headDim] float32 or float16; paged [1, kvHeads, 64 · pages, headDim]. */
  readonly k: Tensor;
  /** The same. */
  readonly v: Tensor;
  /** [B] uint32: tokens that each sequence has there already; paged these, B zeros and the pages [B, P]. */
  readonly past: Tensor;
  /** Sequences lie in pages of 64 tokens. Default false. */
  readonly paged?: boolean;
}

/**
 * Splits a packed projection into queries, keys and values, and rotates queries and keys, in one kernel.
 *
 * @param qkv [T, (heads + 2·kvHeads)·headDim] float32: queries, keys, values
 * @param table [P, 2, rotaryDim / 2] float32 as for {@linkcode rotaryEmbedding}; undefined splits only (GPT-2, BERT)
 * @param positions [T] uint32, each below P; not read without a table
 * @returns `q` [T, heads, headDim], `k` and `v` [T, kvHeads, headDim] float32
 * @throws {ShapeError} if anything does not fit the heads
 *
 * @example
 * ```ts
 * import { openDevice, tensor } from "@tensaur/tensaur";
 * import { qkvRope } from "@tensaur/tensaur/ops";
 * await using device = await openDevice();
 * const qkv = tensor(device, [1, 2, 3, 4], [1, 4]);
 * const { q, k, v } = qkvRope(qkv, undefined, undefined, { heads: 2, kvHeads: 1, headDim: 1 });
 * console.log(await q.read(), await k.read(), await v.read()); // [1, 2] [3] [4]
 * ```
 */
export function qkvRope(
  qkv: Tensor,
  table: Tensor | undefined,
  positions: Tensor | undefined,
  options: QkvRopeOptions,
): QueryKeyValue {
  const { heads, kvHeads, headDim } = options;
  const tokens = expectQkv("qkvRope", qkv, table, positions, options);
  // one buffer for all three, each where a binding may begin: the kernel then writes without branches
  const k0 = aligned(tokens * heads * headDim), v0 = k0 + aligned(tokens * kvHeads * headDim);
  using y = empty(qkv.device, [v0 + tokens * kvHeads * headDim]);
  run(qkv, table, positions, options, y);
  const part = (start: number, n: number) => {
    using flat = y.rows(start, start + tokens * n * headDim);
    return flat.reshape([tokens, n, headDim]);
  };
  return { q: part(0, heads), k: part(k0, kvHeads), v: part(v0, kvHeads) };
}

/** Whether {@linkcode qkvRopeStore} can do it: float16 pairs must not be torn, and the device must bind enough buffers. */
export function canStoreKv(device: Device, { headDim, qNorm }: QkvRopeOptions, table?: Tensor): boolean {
  const half = table?.shape.at(-1) ?? 0;
  return headDim % 4 === 0 && half % 2 === 0 && device.limits.maxStorageBuffersPerShaderStage >= (qNorm ? 10 : 8);
}

/**
 * As {@linkcode qkvRope}, but writes keys and values behind those that `into` holds, whose tensors are changed.
 *
 * @param cuSeqlens [B + 1] uint32: sequence b is the tokens from `cuSeqlens[b]` to `cuSeqlens[b + 1]`
 * @returns `q` [T, heads, headDim] float32
 * @throws {ShapeError} if anything does not fit the heads
 */
export function qkvRopeStore(
  qkv: Tensor,
  table: Tensor | undefined,
  positions: Tensor | undefined,
  options: QkvRopeOptions,
  into: KvTarget,
  cuSeqlens: Tensor,
): Tensor {
  const { heads, headDim } = options;
  const tokens = expectStore("qkvRopeStore", { qkv, table, positions, ...options }, into, cuSeqlens);
  const q = empty(qkv.device, [tokens, heads, headDim]);
  run(qkv, table, positions, options, q, { ...into, cuSeqlens });
  return q;
}

/** Checks a projection and where its keys and values go; gives the number of tokens. */
export function expectStore(
  op: string,
  { qkv, table, positions, ...options }: PackedProjection,
  { k, v, past, paged }: KvTarget,
  cuSeqlens: Tensor,
): number {
  const tokens = expectQkv(op, qkv, table, positions, options), { kvHeads, headDim } = options;
  const [starts = 0] = expectShape(op, "cuSeqlens", cuSeqlens, ["B + 1"]), sequences = starts - 1;
  expectShape(op, "past", past, [paged ? "(2 + P) · B" : sequences]);
  const kept = paged ? [1, kvHeads, "64 · pages", headDim] : [sequences, kvHeads, "capacity", headDim];
  const shape = expectShape(op, "k", k, kept);
  expectShape(op, "v", v, shape);
  expectDtype(op, "k", k, "float32", "float16");
  expectDtype(op, "v", v, k.dtype);
  return tokens;
}

/** Checks all but where it goes; gives the number of tokens. */
function expectQkv(
  op: string,
  qkv: Tensor,
  table: Tensor | undefined,
  positions: Tensor | undefined,
  { heads, kvHeads, headDim, qNorm, kNorm }: QkvRopeOptions,
): number {
  const [tokens = 0] = expectShape(op, "qkv", qkv, ["T", (heads + 2 * kvHeads) * headDim]);
  expectDtype(op, "qkv", qkv, "float32");
  if (!qNorm !== !kNorm || (table && !positions)) {
    const [both, one] = table && !positions
      ? ["table and positions", "table"]
      : ["qNorm and kNorm", qNorm ? "qNorm" : "kNorm"];
    throw new ShapeError(`Cannot run ${op} as ${both} must come together: only ${one} came`);
  }
  if (table && positions) expectTable(op, table, positions, tokens, headDim);
  for (const [name, norm] of Object.entries({ qNorm, kNorm })) {
    if (!norm) continue;
    expectShape(op, name, norm, [headDim]);
    expectDtype(op, name, norm, "float32");
  }
  return tokens;
}

function run(
  qkv: Tensor,
  table: Tensor | undefined,
  positions: Tensor | undefined,
  { heads, kvHeads, headDim, qNorm, kNorm, eps, interleaved = false }: QkvRopeOptions,
  y: Tensor,
  store?: KvTarget & { cuSeqlens: Tensor },
): void {
  const half = store?.k.dtype === "float16";
  const rows = qkv.size / headDim, serial = !!qNorm && qkv.device.isCpu;
  const threads = Math.ceil(headDim / (half ? 4 : 2)); // of a head: one a pair, or two pairs that make words of 16-bit floats
  launch(qkv.device, {
    flags: {
      NORM: !!qNorm,
      SERIAL: serial,
      ROPE: !!table,
      INTERLEAVED: !!table && interleaved,
      MAPPED: !!store?.paged,
      [!store ? "PACKED" : half ? "STORE_F16" : "STORE_F32"]: true,
    },
    overrides: {
      HEADS: heads,
      KV_HEADS: kvHeads,
      HEAD_DIM: headDim,
      HALF: table?.shape.at(-1) ?? 0,
      ...qNorm ? { EPS: eps ?? 1e-6 } : {},
    },
    bindings: {
      ...{ qkv, y, table, positions, q_norm: qNorm, k_norm: kNorm },
      ...{ cuSeqlens: store?.cuSeqlens, past: store?.past, keys: store?.k, values: store?.v },
    },
    grid: [qNorm && !serial ? rows : Math.ceil(rows * (serial ? 1 : threads) / 64)],
  });
}

/** The next multiple of 64 elements of 4 bytes: the largest alignment that WebGPU lets a device ask for is 256 bytes. */
function aligned(size: number): number {
  return Math.ceil(size / 64) * 64;
}

/** The same in plain loops: what the kernel must equal. */
export function qkvRopeReference(
  qkv: Float32Array,
  table: Float32Array | undefined,
  positions: ArrayLike<number>,
  shape: { heads: number; kvHeads: number; headDim: number; half: number; interleaved?: boolean; eps?: number },
  norms?: { q: Float32Array; k: Float32Array },
): QueryKeyValue<Float32Array> {
  const { heads, kvHeads, headDim, half, interleaved, eps } = shape;
  const width = (heads + 2 * kvHeads) * headDim;
  const columns = (from: number, count: number) =>
    qkv.filter((_, i) => i % width >= from * headDim && i % width < (from + count) * headDim);
  const turned = (x: Float32Array, norm: Float32Array | undefined) => {
    const y = norm ? rmsNormReference(x, norm, eps) : x;
    return table ? rotaryEmbeddingReference(y, table, positions, headDim, half, interleaved) : y;
  };
  return {
    q: turned(columns(0, heads), norms?.q),
    k: turned(columns(heads, kvHeads), norms?.k),
    v: columns(heads + kvHeads, kvHeads),
  };
}
