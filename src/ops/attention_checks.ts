/**
 * What {@linkcode attention} refuses, before anything is allocated.
 *
 * @module
 */
import { ShapeError, ValueError } from "../errors.ts";
import { expectDtype, expectShape, formatShape, type Shape, type Tensor } from "../tensor/mod.ts";
import { countsOf, type KeyValues, layoutOf } from "./attention_layout.ts";

/** The sizes that the shapes say. */
export interface AttentionSizes {
  /** T: queries of all sequences. */
  T: number;
  /** Query heads. */
  H: number;
  /** Key heads. */
  kvHeads: number;
  /** Length of a query's and a key's head. */
  Dh: number;
  /** Length of a value's head. */
  Ev: number;
  /** Sequences. */
  B: number;
}

/** The tensors of a call; without `v` it only asks for weights. */
export interface AttentionTensors {
  /** [T, H, Dh], or what stands for it before it is made. */
  q: Pick<Tensor, "shape" | "dtype" | "device">;
  /** Keys, and values if any. */
  kv: Omit<KeyValues, "v"> & { readonly v?: Tensor };
  /** [B + 1]. */
  cuSeqlens: Tensor;
  /** Added to the scores. */
  bias?: Tensor;
}

/** Checks everything, and gives the sizes. */
export function checkAttention(op: string, { q, kv, cuSeqlens, bias }: AttentionTensors): AttentionSizes {
  const { k, v = k, geometry, past, cuSeqlensK } = kv;
  const [T = 0, H = 0, Dh = 0] = expectShape(op, "q", q, ["T", "H", "Dh"]);
  expectDtype(op, "q", q, "float32");
  expectDtype(op, "k", k, "float32", "float16", "bfloat16");
  expectDtype(op, "v", v, k.dtype);
  if (k.shape.length < 3) refuse(ShapeError, op, "k must have at least 3 dimensions", formatShape(k.shape));
  const rank = k.shape.length, kvHeads = k.shape[1]!;
  if (k.shape.at(-1) !== Dh) refuse(ShapeError, op, `a head of k must be as long as one of q, ${Dh}`, shapeOf(k));
  if (v.shape.length !== rank) refuse(ShapeError, op, `v must have the ${rank} dimensions of k`, shapeOf(v));
  if (v.shape[1] !== kvHeads) refuse(ShapeError, op, `v must have the ${kvHeads} heads of k`, shapeOf(v));
  checkHeads(op, H, kvHeads, geometry);
  for (const [name, x] of Object.entries({ cuSeqlens, past, cuSeqlensK })) {
    if (!x) continue;
    expectDtype(op, name, x, "uint32");
    if (x.shape.length !== 1) refuse(ShapeError, op, `${name} must have one dimension`, shapeOf(x));
  }
  const B = cuSeqlens.size - 1;
  if (B < 0) refuse(ShapeError, op, "cuSeqlens must be [B + 1]", shapeOf(cuSeqlens));
  if (cuSeqlensK && cuSeqlensK.size !== B + 1) {
    refuse(ShapeError, op, `cuSeqlensK must be [${B + 1}], as cuSeqlens`, shapeOf(cuSeqlensK));
  }
  checkPast(op, kv, B);
  checkBias(op, geometry, bias);
  const all = { k, v, cuSeqlens, geometry, past, cuSeqlensK, bias };
  for (const [name, x] of Object.entries(all)) {
    if (x && x.device !== q.device) refuse(ValueError, op, `${name} must be on the device of q`, "it is on another");
  }
  return { T, H, kvHeads, Dh, Ev: v.shape.at(-1)!, B };
}

/** A layout says how many heads there are. */
function checkHeads(op: string, H: number, kvHeads: number, geometry: Tensor): void {
  expectDtype(op, "geometry", geometry, "uint32");
  const layout = layoutOf(geometry);
  if (layout && layout.heads !== H) {
    refuse(ShapeError, op, `q must have the ${layout.heads} heads of its layout`, H);
  }
  if (layout && layout.kvHeads !== kvHeads) {
    refuse(ShapeError, op, `k must have the ${layout.kvHeads} heads of its layout`, kvHeads);
  }
  if (kvHeads === 0 || H % kvHeads !== 0) refuse(ShapeError, op, `the heads of k must divide the ${H} of q`, kvHeads);
}

/** A layout says whether keys are counted by sequence. */
function checkPast(op: string, { geometry, past, paged }: AttentionTensors["kv"], B: number): void {
  if (past && (paged ? past.size % Math.max(1, B) !== 0 || past.size < 2 * B : past.size < B)) {
    const want = paged ? `[(2 + P) · ${B}]` : `[${B}], one a sequence`;
    refuse(ShapeError, op, `past must be ${want}`, shapeOf(past));
  }
  const layout = layoutOf(geometry);
  if (!layout || !!past === (countsOf(layout) !== "starts")) return;
  const rule = past ? "left out where keys are packed" : "there where keys are not packed";
  refuse(ValueError, op, `past must be ${rule}`, past ? shapeOf(past) : "undefined");
}

/** A layout says whether something is added, and what. */
function checkBias(op: string, geometry: Tensor, bias?: Tensor): void {
  const layout = layoutOf(geometry);
  if (bias) expectDtype(op, "bias", bias, layout?.bias?.mask ? "uint32" : "float32");
  if (!layout || !!bias === !!(layout.bias ?? layout.relativeBias)) return;
  refuse(
    ValueError,
    op,
    bias ? "bias must be left out where its layout has none" : "bias must be there where its layout has one",
    bias ? shapeOf(bias) : "undefined",
  );
}

function shapeOf({ shape }: { shape: Shape }): string {
  return formatShape(shape);
}

function refuse(kind: typeof ShapeError | typeof ValueError, op: string, rule: string, came: unknown): never {
  throw new kind(`Cannot run ${op} as ${rule}: current value is ${came}`);
}
