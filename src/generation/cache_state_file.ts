/**
 * Caches whose keys are not those of the model, in files: their tensors as they lie, and a text that says what they mean.
 *
 * @module
 */
import { type CacheState, type LayerState, restoreCache } from "../cache/mod.ts";
import type { Cache } from "../cache/mod.ts";
import { ModelFormatError } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import { type Tensor, tensor } from "../tensor/mod.ts";
import type { ModelFile } from "../weights/files.ts";
import type { TensorToSave } from "../weights/save.ts";
import type { SafetensorsHeader } from "../weights/safetensors.ts";

const NAMES = { float32: "F32", float16: "F16", uint32: "U32" } as const;
const DTYPES = { F32: "float32", F16: "float16", U32: "uint32" } as const;
const ARRAYS = { F32: Float32Array, F16: Float16Array, U32: Uint32Array } as const;

/** The tensors of a state, read from the GPU. */
export function stateTensors({ layers }: CacheState): Promise<TensorToSave[]> {
  return Promise.all(layers.flatMap(({ tensors }, i) =>
    Object.entries(tensors).map(async ([name, t]) => ({
      name: `layers.${i}.${name}`,
      dtype: NAMES[t.dtype as keyof typeof NAMES],
      shape: t.shape,
      data: new Uint8Array((await t.read()).buffer as ArrayBuffer),
    }))
  ));
}

/** What the tensors of a state mean, as text. */
export function stateText({ layers, ...state }: CacheState): string {
  return JSON.stringify({ ...state, layers: layers.map(({ tensors: _, ...layer }) => layer) });
}

/**
 * The cache of a file.
 *
 * @throws {ModelFormatError} if the text or a tensor is not what the other says
 */
export async function readState(
  file: ModelFile,
  { tensors }: SafetensorsHeader,
  text: string,
  device: Device,
): Promise<Cache> {
  const state = parsed(text);
  using owned = new DisposableStack();
  const layers: LayerState[] = [];
  for (const [i, layer] of state.layers.entries()) {
    const own: Record<string, Tensor> = {}, prefix = `layers.${i}.`;
    for (const [name, { dtype, shape, start, end }] of tensors) {
      if (!name.startsWith(prefix)) continue;
      if (!Object.hasOwn(DTYPES, dtype)) throw wrong(`${name} must be F32, F16 or U32: it is ${dtype}`);
      const kind = dtype as keyof typeof DTYPES, bytes = (await file.read(start, end - start)).slice().buffer;
      own[name.slice(prefix.length)] = owned.use(tensor(device, new ARRAYS[kind](bytes), shape, DTYPES[kind]));
    }
    layers.push({ ...layer, tensors: own });
  }
  return restoreCache({ ...state, layers }, device);
}

function parsed(text: string): CacheState {
  let state: unknown;
  try {
    state = JSON.parse(text);
  } catch { /* told below */ }
  const { kind, options, lengths, reach, quantized = [], layers } = (state ?? {}) as Record<string, unknown>;
  const size = Array.isArray(lengths) ? lengths.length : 0;
  const whole = (list: unknown, n = size) =>
    Array.isArray(list) && list.length === n && list.every((x) => Number.isSafeInteger(x) && x >= 0);
  const isLayer = (layer: unknown) => {
    const { kvHeads, headDim, spans = lengths } = (layer ?? {}) as Record<string, unknown>;
    return whole([kvHeads, headDim], 2) && whole(spans);
  };
  const holds = typeof kind === "string" && typeof options === "object" && options !== null && whole(lengths) &&
    whole(reach) && whole(quantized, (quantized as unknown[]).length) && Array.isArray(layers) &&
    layers.every(isLayer);
  if (holds) return state as CacheState;
  throw wrong(`its state must say kind, options, lengths and layers: it is ${text.slice(0, 200)}`);
}

function wrong(what: string): ModelFormatError {
  return new ModelFormatError(`Cannot load the cache as ${what}`);
}
