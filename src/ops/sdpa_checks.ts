/**
 * What {@linkcode scaledDotProductAttention} refuses, before anything is allocated.
 *
 * @module
 */
import { DtypeError, NotSupportedError, RuntimeError, ShapeError, ValueError } from "../errors.ts";
import { type Dtype, elements, formatShape, type Shape, type Tensor } from "../tensor/mod.ts";
import type { SdpaOptions } from "./scaled_dot_product_attention.ts";
import { chooseBackend } from "./sdpa_choice.ts";
import { enabledBackends } from "./sdpa_kernel.ts";

/** The sizes that the shapes say. */
export interface SdpaSizes {
  /** Product of the leading dimensions. */
  B: number;
  /** Query heads. */
  H: number;
  /** Key heads. */
  Hkv: number;
  /** Queries. */
  L: number;
  /** Keys. */
  S: number;
  /** Length of a query's and a key's head. */
  E: number;
  /** Length of a value's head. */
  Ev: number;
}

const OP = "scaledDotProductAttention";
const FLOATS: readonly Dtype[] = ["float32", "float16", "bfloat16"];
const ALIGNMENTS: readonly unknown[] = [undefined, true, false, "topLeft", "bottomRight"];
const OPTIONS: Readonly<Record<keyof SdpaOptions, true>> = {
  attnMask: true,
  isCausal: true,
  scale: true,
  enableGqa: true,
  softcap: true,
  slidingWindow: true,
  alibiSlopes: true,
  sinks: true,
  kvLengths: true,
  dropoutP: true,
};

/** Checks everything, and gives the sizes. */
export function checkSdpa(q: Tensor, k: Tensor, v: Tensor, options: SdpaOptions): SdpaSizes {
  checkDtypes(q, k, v);
  const sizes = checkShapes(q.shape, k.shape, v.shape, options.enableGqa ?? false);
  checkValues(options);
  checkMask(options, q.shape, sizes);
  for (const name of ["alibiSlopes", "sinks"] as const) checkPerHead(name, options[name], sizes.H);
  checkLengths(options, sizes);
  const all = { q, k, v, ...options };
  for (const [name, t] of Object.entries(all)) {
    if (typeof t !== "object" || !("device" in t)) continue;
    if (t.device !== q.device) {
      refuse(ValueError, `${name} must be on the device of q`, "it is on another");
    }
    t.buffer; // throws where the tensor was disposed of
  }
  chooseBackend({ dtype: k.dtype, headDim: sizes.E, valueDim: sizes.Ev, bias: !!options.attnMask }, enabledBackends());
  return sizes;
}

type ErrorClass = new (message: string, details?: { hint?: string }) => Error;

function refuse(kind: ErrorClass, rule: string, came: unknown, hint?: string): never {
  throw new kind(`Cannot run ${OP} as ${rule}: current value is ${came}`, hint ? { hint } : {});
}

function checkDtypes(q: Tensor, k: Tensor, v: Tensor): void {
  for (const [name, t] of Object.entries({ q, k, v })) {
    if (!FLOATS.includes(t.dtype)) refuse(DtypeError, `${name} must be ${FLOATS.join(", ")}`, t.dtype);
    if (t.dtype !== q.dtype) {
      refuse(DtypeError, `${name} must have the dtype of q, ${q.dtype}`, t.dtype, "Use cast().");
    }
  }
}

function checkShapes(q: Shape, k: Shape, v: Shape, enableGqa: boolean): SdpaSizes {
  const shapes = { q, k, v };
  for (const [name, shape] of Object.entries(shapes)) {
    if (shape.length < 2) refuse(ShapeError, `${name} must have at least 2 dimensions`, formatShape(shape));
    if (shape.length !== q.length) {
      refuse(ShapeError, `${name} must have as many dimensions as q, ${q.length}`, formatShape(shape));
    }
    if (!shape.slice(0, -3).every((n, i) => n === q[i])) {
      const want = formatShape([...q.slice(0, -3), "…"]);
      refuse(ShapeError, `${name} must have the leading dimensions of q, ${want}`, formatShape(shape));
    }
  }
  const [H = 1, L = 0, E = 0] = lastThree(q),
    [Hkv = 1, S = 0, Ek = 0] = lastThree(k),
    [Hv = 1, Sv = 0, Ev = 0] = lastThree(v);
  if (E === 0) refuse(ShapeError, "a head of q must not be empty", formatShape(q));
  if (Ek !== E) refuse(ShapeError, `a head of k must be as long as one of q, ${E}`, formatShape(k));
  if (Sv !== S) refuse(ShapeError, `v must have a value for each of the ${S} keys`, formatShape(v));
  if (Hv !== Hkv) refuse(ShapeError, `v must have the ${Hkv} heads of k`, formatShape(v));
  if (typeof enableGqa !== "boolean") refuse(ValueError, "enableGqa must be true or false", enableGqa);
  if (H !== Hkv && !enableGqa) {
    refuse(ShapeError, `k must have the ${H} heads of q`, formatShape(k), "Pass enableGqa: true for shared key heads.");
  }
  if (H > 0 && (Hkv === 0 || H % Hkv !== 0)) {
    refuse(ShapeError, `the heads of k must divide the ${H} of q`, formatShape(k));
  }
  return { B: elements(q.slice(0, -3)), H, Hkv, L, S, E, Ev };
}

function lastThree(shape: Shape): Shape {
  return shape.length === 2 ? [1, ...shape] : shape.slice(-3);
}

function checkValues(options: SdpaOptions): void {
  const { isCausal, scale = 1, softcap = 1, slidingWindow = 1, dropoutP = 0 } = options;
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(OPTIONS, name));
  if (unknown) refuse(ValueError, `options must be ${Object.keys(OPTIONS).join(", ")}`, unknown);
  if (dropoutP !== 0) refuse(NotSupportedError, "dropoutP must be 0, for inference", dropoutP);
  if (!ALIGNMENTS.includes(isCausal)) {
    refuse(ValueError, 'isCausal must be true, false, "topLeft" or "bottomRight"', String(isCausal));
  }
  if (!Number.isFinite(scale)) refuse(ValueError, "scale must be a finite number", scale);
  if (!(softcap >= 0 && Number.isFinite(softcap))) {
    refuse(ValueError, "softcap must be finite and not negative", softcap);
  }
  if (!(Number.isSafeInteger(slidingWindow) && slidingWindow >= 1 && slidingWindow < 2 ** 30)) {
    refuse(ValueError, "slidingWindow must be a whole number of keys from 1", slidingWindow);
  }
}

function checkMask({ attnMask, isCausal }: SdpaOptions, q: Shape, { H, L, S }: SdpaSizes): void {
  if (!attnMask) return;
  if (isCausal === true) {
    refuse(
      RuntimeError,
      "attnMask must not be set where isCausal is true, as in PyTorch",
      "both",
      'isCausal: "topLeft" means the same and takes a mask; or put the triangle into the mask.',
    );
  }
  const { dtype, shape } = attnMask;
  if (dtype !== "uint32" && !FLOATS.includes(dtype)) {
    refuse(DtypeError, `attnMask must be uint32 (bool), ${FLOATS.join(", ")}`, dtype);
  }
  const full = q.length === 2 ? [L, S] : [...q.slice(0, -3), H, L, S];
  const at = full.length - shape.length;
  if (at < 0 || !shape.every((n, i) => n === 1 || n === full[at + i])) {
    refuse(ShapeError, `attnMask must be broadcastable to ${formatShape(full)}`, formatShape(shape));
  }
}

function checkPerHead(name: "alibiSlopes" | "sinks", x: SdpaOptions["sinks"], H: number): void {
  if (x === undefined) return;
  const shape = "shape" in x ? x.shape : [x.length];
  if (!(shape.length === 1 && shape[0] === H)) {
    refuse(ShapeError, `${name} must be [${H}], one a head`, formatShape(shape));
  }
  if ("dtype" in x && x.dtype !== "float32") refuse(DtypeError, `${name} must be float32`, x.dtype);
  if (!("dtype" in x) && !x.every(Number.isFinite)) refuse(ValueError, `${name} must be finite numbers`, x.join(", "));
}

function checkLengths(options: SdpaOptions, { B, L, S }: SdpaSizes): void {
  const { kvLengths, isCausal, slidingWindow, alibiSlopes } = options;
  if (kvLengths === undefined) return;
  if ("shape" in kvLengths) {
    if (kvLengths.size !== B) {
      refuse(
        ShapeError,
        `kvLengths must have a length for each of the ${B} batch entries`,
        formatShape(kvLengths.shape),
      );
    }
    if (kvLengths.dtype !== "uint32") refuse(DtypeError, "kvLengths must be uint32", kvLengths.dtype);
  } else {
    if (kvLengths.length !== B) {
      refuse(ShapeError, `kvLengths must have a length for each of the ${B} batch entries`, `[${kvLengths}]`);
    }
    if (!kvLengths.every((n) => Number.isInteger(n) && n >= 0 && n <= S)) {
      refuse(ValueError, `kvLengths must be whole numbers from 0 to ${S}`, `[${kvLengths}]`);
    }
  }
  if (!isCausal && L !== S && (slidingWindow !== undefined || alibiSlopes !== undefined)) {
    refuse(
      ValueError,
      `isCausal must say where the ${L} queries stand among ${S} keys of kvLengths, for a window or ALiBi`,
      isCausal,
      'Pass isCausal: "bottomRight" where the last query stands at the last key that is there.',
    );
  }
}
