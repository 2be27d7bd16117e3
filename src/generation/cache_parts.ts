/**
 * The parts of a cache, as tensors of a file.
 *
 * @module
 */
import { type Cache, type CacheDtype, type CrossCache, KvCache, type LegacyCache } from "../cache/mod.ts";
import { NotSupportedError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import type { TensorToSave } from "../weights/save.ts";
import { stateTensors, stateText } from "./cache_state_file.ts";

/** How a file names what a cache stores. */
export const DTYPES = { float32: "F32", float16: "F16" } as const;

/** How names of tensors begin: the model's own keys, or those of its encoder's states. */
export type PartName = "layers" | "cross";

/** What a part of a cache adds to a file. */
export interface Part {
  tensors: TensorToSave[];
  metadata: Record<string, string>;
}

/** Its own keys and values, or states. */
export async function ownPart(cache: Cache, model: Model): Promise<Part> {
  if (cache instanceof KvCache && cache.isExact) {
    const metadata = { dtype: cache.dtype, lengths: JSON.stringify(cache.lengths) };
    return { tensors: await pairsToSave(cache.toLegacyCache(), "layers"), metadata };
  }
  const { state } = cache;
  if (state) {
    return { tensors: await stateTensors(state), metadata: { dtype: model.cacheDtype, state: stateText(state) } };
  }
  throw new NotSupportedError(
    `Cannot save the cache as it must hold keys or states of its own: a ${cache.constructor.name} does not`,
    { hint: "Save the token ids." },
  );
}

/** The keys and values of an encoder. */
export async function crossPart(cross: CrossCache): Promise<Part> {
  const pairs = Array.from({ length: cross.layers }, (_, layer) => cross.at(layer));
  const metadata = { crossDtype: cross.dtype, crossLengths: JSON.stringify(cross.lengths) };
  return { tensors: await pairsToSave(pairs, "cross"), metadata };
}

/** Keys and values as tensors of a file; disposes of them. */
async function pairsToSave(pairs: LegacyCache, part: PartName): Promise<TensorToSave[]> {
  try {
    return await Promise.all(pairs.flatMap((pair, layer) =>
      pair.map(async (t, i) => ({
        name: `${part}.${layer}.${i === 0 ? "key" : "value"}`,
        dtype: DTYPES[t.dtype as CacheDtype],
        shape: t.shape,
        data: new Uint8Array((await t.read()).buffer as ArrayBuffer),
      }))
    ));
  } finally {
    for (const t of pairs.flat()) t.dispose();
  }
}
