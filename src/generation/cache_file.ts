/**
 * Caches in files: a prompt that is computed once and used in many runs.
 *
 * @module
 */
import { basename, dirname, resolve } from "node:path";
import { type Cache, type CacheDtype, DynamicCache, KvCache, type LegacyCache, makeCache } from "../cache/mod.ts";
import { ModelFormatError, NotSupportedError, ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import { type Tensor, tensor } from "../tensor/mod.ts";
import { openInside } from "../weights/files.ts";
import type { ModelFile } from "../weights/files.ts";
import { readSafetensorsHeader, type SafetensorsHeader } from "../weights/safetensors.ts";
import { writeSafetensors } from "../weights/save.ts";
import { readState, stateTensors, stateText } from "./cache_state_file.ts";
import { needsOf } from "./kept_caches.ts";

const FORMAT = "tensaur-cache-1";
const DTYPES = { float32: "F32", float16: "F16" } as const;

/**
 * Writes a cache to a safetensors file, with the lengths of its sequences and the config of its model.
 *
 * A `SinkCache`, a `QuantizedCache` and a `MambaCache` are written as they lie, the others as keys and values.
 *
 * @throws {NotSupportedError} if the cache keeps nothing of its own, as an `EncoderDecoderCache` does
 *
 * @example
 * ```ts
 * import { DynamicCache, loadCache, loadModel, saveCache } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * using cache = model.newCache();
 * using output = await model.forward({ inputIds: [[1, 2, 3]] }, { cache });
 * const path = await Deno.makeTempFile();
 * await saveCache(cache, model, path);
 * using again = await loadCache(model, path);
 * console.log(again.lengths); // [3]
 * ```
 */
export async function saveCache(cache: Cache, model: Model, path: string): Promise<void> {
  if (!(cache instanceof KvCache && cache.isExact)) return await saveState(cache, model, path);
  const layers = cache.toLegacyCache();
  try {
    const tensors = await Promise.all(layers.flatMap((pair, layer) =>
      pair.map(async (t, i) => ({
        name: `layers.${layer}.${i === 0 ? "key" : "value"}`,
        dtype: DTYPES[cache.dtype],
        shape: t.shape,
        data: new Uint8Array((await t.read()).buffer as ArrayBuffer),
      }))
    ));
    await writeSafetensors(path, tensors, {
      format: FORMAT,
      model: await fingerprint(model),
      dtype: cache.dtype,
      lengths: JSON.stringify(cache.lengths),
    });
  } finally {
    for (const t of layers.flat()) t.dispose();
  }
}

async function saveState(cache: Cache, model: Model, path: string): Promise<void> {
  const { state } = cache;
  if (!state) {
    throw new NotSupportedError(
      `Cannot save the cache as it must hold keys or states of its own: a ${cache.constructor.name} does not`,
      { hint: "Save the parts of an EncoderDecoderCache, or the token ids." },
    );
  }
  await writeSafetensors(path, await stateTensors(state), {
    format: FORMAT,
    model: await fingerprint(model),
    dtype: model.cacheDtype,
    state: stateText(state),
  });
}

/** What {@linkcode loadCache} takes. */
export interface LoadCacheOptions {
  /** What kind of cache it becomes, by the names of `cacheImplementation`. Default: "dynamic"; caches that were written as they lie stay what they are. */
  cacheImplementation?: string;
  /** Room of caches of a fixed capacity. Default: the longest sequence. */
  maxCacheLen?: number;
}

/**
 * Reads a cache that {@linkcode saveCache} wrote.
 *
 * @throws {ValueError} if it is of another model, or the model stores keys in another dtype
 * @throws {ModelFormatError} if the file is no such cache
 */
export async function loadCache(model: Model, path: string, options: LoadCacheOptions = {}): Promise<Cache> {
  const full = resolve(path);
  using file = await openInside(dirname(full), basename(full));
  const header = await readSafetensorsHeader(file), { metadata } = header;
  if (metadata.get("format") !== FORMAT) {
    throw new ModelFormatError(
      `Cannot load the cache as its file must have the format ${FORMAT}: it is ${metadata.get("format")}`,
    );
  }
  expectSame("model", metadata.get("model"), await fingerprint(model), "Use the model that it was saved with.");
  expectSame("dtype", metadata.get("dtype"), model.cacheDtype, "Load the model with the dtype that it had then.");
  const state = metadata.get("state");
  if (state !== undefined) {
    if (options.cacheImplementation === undefined) return await readState(file, header, state, model.device);
    throw new ValueError(
      "Cannot load the cache as another kind as its file must have the model's keys: it has those of " +
        `${/"kind":"(\w+)"/.exec(state)?.[1]}, as they lie`,
      { hint: "Leave cacheImplementation out." },
    );
  }
  const dtype = metadata.get("dtype") as CacheDtype, lengths = lengthsOf(metadata.get("lengths"));
  using owned = new DisposableStack();
  const layers: LegacyCache = await readLayers(file, header, (t) => owned.use(t), model, dtype);
  const { attention } = model.sizes, name = options.cacheImplementation ?? "dynamic";
  const needs = { ...needsOf(model, options.maxCacheLen ?? Math.max(1, ...lengths)), dtype };
  const cache = (name === "dynamic" ? new DynamicCache({ dtype }) : makeCache(name, needs)) as KvCache;
  try {
    cache.adopt(layers, lengths, (layer) => attention[layer]);
    return cache;
  } catch (error) {
    cache.dispose();
    throw error;
  }
}

async function readLayers(
  file: ModelFile,
  { tensors }: SafetensorsHeader,
  own: (t: Tensor) => Tensor,
  model: Model,
  dtype: CacheDtype,
): Promise<LegacyCache> {
  const layers: [Tensor, Tensor][] = [];
  for (let layer = 0; layer < tensors.size / 2; layer++) {
    const pair: Tensor[] = [];
    for (const part of ["key", "value"]) {
      const info = tensors.get(`layers.${layer}.${part}`);
      if (!info || info.shape.length !== 4 || info.dtype !== DTYPES[dtype]) {
        throw new ModelFormatError(
          `Cannot load the cache as ${file.name} must have layers.${layer}.${part} [B, Hkv, S, Dh] in ${dtype}: it has ` +
            (info ? `${info.dtype} [${info.shape}]` : "none"),
        );
      }
      const bytes = (await file.read(info.start, info.end - info.start)).slice().buffer;
      const data = dtype === "float16" ? new Float16Array(bytes) : new Float32Array(bytes);
      pair.push(own(tensor(model.device, data, info.shape, dtype)));
    }
    layers.push(pair as [Tensor, Tensor]);
  }
  return layers;
}

function expectSame(what: string, saved: string | undefined, now: string, hint: string): void {
  if (saved === now) return;
  throw new ValueError(`Cannot load the cache as its ${what} must be the present one's: it is ${saved}, not ${now}`, {
    hint,
  });
}

function lengthsOf(text: string | undefined): number[] {
  try {
    const lengths: unknown = JSON.parse(text ?? "");
    if (Array.isArray(lengths) && lengths.every((n) => Number.isSafeInteger(n) && n >= 0)) return lengths;
  } catch { /* told below */ }
  throw new ModelFormatError(`Cannot load the cache as its lengths must be whole numbers: they are ${text}`);
}

/** Tells models of different configs apart. */
async function fingerprint(model: Model): Promise<string> {
  const entries = Object.entries(model.config).filter(([key]) =>
    !/^(_|transformers_version|torch_dtype|dtype)/.test(key)
  );
  const text = JSON.stringify(entries.sort(([a], [b]) => a < b ? -1 : 1));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `${model.config.model_type} ${new Uint8Array(digest).toHex().slice(0, 16)}`;
}
