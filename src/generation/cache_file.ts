/**
 * Caches in files: a prompt that is computed once and used in many runs.
 *
 * @module
 */
import { basename, dirname, resolve } from "node:path";
import {
  type Cache,
  type CacheDtype,
  CrossCache,
  DynamicCache,
  EncoderDecoderCache,
  type KvCache,
  type LegacyCache,
  makeCache,
} from "../cache/mod.ts";
import { ModelFormatError, ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import { type Tensor, tensor } from "../tensor/mod.ts";
import { openInside } from "../weights/files.ts";
import type { ModelFile } from "../weights/files.ts";
import { readSafetensorsHeader, type SafetensorsHeader } from "../weights/safetensors.ts";
import { writeSafetensors } from "../weights/save.ts";
import { crossPart, DTYPES, ownPart, type PartName } from "./cache_parts.ts";
import { readState } from "./cache_state_file.ts";
import { needsOf } from "./kept_caches.ts";

const FORMAT = "tensaur-cache-1";

/** What {@linkcode saveCache} takes. */
export interface SaveCacheOptions {
  /** The tokens of each sequence, to be kept in the file for {@linkcode cachedInputIds}. */
  inputIds?: readonly (readonly number[])[];
}

/**
 * Writes a cache to a safetensors file, with the lengths of its sequences and the config of its model.
 *
 * A `SinkCache`, a `QuantizedCache` and a `MambaCache` are written as they lie, the others as keys and values; of an
 * `EncoderDecoderCache` the decoder's part in that way, and the encoder's keys and values.
 *
 * @throws {NotSupportedError} if the cache keeps nothing of its own
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
export async function saveCache(
  cache: Cache,
  model: Model,
  path: string,
  { inputIds }: SaveCacheOptions = {},
): Promise<void> {
  const { selfAttentionCache: own = cache, crossAttentionCache: cross } = cache;
  const parts = [await ownPart(own, model), ...cross ? [await crossPart(cross)] : []];
  await writeSafetensors(path, parts.flatMap(({ tensors }) => tensors), {
    format: FORMAT,
    model: await fingerprint(model),
    ...inputIds && { inputIds: JSON.stringify(inputIds) },
    ...Object.assign({}, ...parts.map(({ metadata }) => metadata)),
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
  expectFormat(metadata);
  expectSame("model", metadata.get("model"), await fingerprint(model), "Use the model that it was saved with.");
  expectSame("dtype", metadata.get("dtype"), model.cacheDtype, "Load the model with the dtype that it had then.");
  using made = new DisposableStack();
  const own = made.use(await readOwn(model, file, header, options));
  const crossLengths = metadata.get("crossLengths");
  const cross = crossLengths === undefined ? undefined : await readCross(model, file, header, lengthsOf(crossLengths));
  made.move(); // nothing failed: they are the caller's
  return cross ? new EncoderDecoderCache(own, cross) : own;
}

/**
 * The tokens that {@linkcode saveCache} was given with a cache; undefined if there were none.
 *
 * @throws {ModelFormatError} if the file is no such cache
 *
 * @example
 * ```ts
 * import { cachedInputIds, loadModel, saveCache } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * using cache = model.newCache();
 * using output = await model.forward({ inputIds: [[1, 2, 3]] }, { cache });
 * const path = await Deno.makeTempFile();
 * await saveCache(cache, model, path, { inputIds: [[1, 2, 3]] });
 * console.log(await cachedInputIds(path)); // [[1, 2, 3]]
 * ```
 */
export async function cachedInputIds(path: string): Promise<number[][] | undefined> {
  const full = resolve(path);
  using file = await openInside(dirname(full), basename(full));
  const { metadata } = await readSafetensorsHeader(file);
  expectFormat(metadata);
  const text = metadata.get("inputIds");
  if (text === undefined) return undefined;
  try {
    const rows: unknown = JSON.parse(text);
    if (Array.isArray(rows) && rows.every((row) => Array.isArray(row) && row.every(Number.isSafeInteger))) return rows;
  } catch { /* told below */ }
  throw new ModelFormatError(`Cannot load the cache as its inputIds must be rows of tokens: they are ${text}`);
}

function expectFormat(metadata: ReadonlyMap<string, string>): void {
  if (metadata.get("format") === FORMAT) return;
  throw new ModelFormatError(
    `Cannot load the cache as its file must have the format ${FORMAT}: it is ${metadata.get("format")}`,
  );
}

async function readOwn(
  model: Model,
  file: ModelFile,
  header: SafetensorsHeader,
  options: LoadCacheOptions,
): Promise<Cache> {
  const { metadata } = header, state = metadata.get("state");
  if (state !== undefined) {
    if (options.cacheImplementation === undefined) return await readState(file, header, state, model.device);
    throw new ValueError(
      "Cannot load the cache as another kind as its file must have the model's keys: it has those of " +
        `${/"kind":"(\w+)"/.exec(state)?.[1]}, as they lie`,
      { hint: "Leave cacheImplementation out." },
    );
  }
  const dtype = model.cacheDtype, lengths = lengthsOf(metadata.get("lengths"));
  using owned = new DisposableStack();
  const layers = await readLayers(file, header, (t) => owned.use(t), model, { part: "layers", dtype });
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

async function readCross(
  model: Model,
  file: ModelFile,
  header: SafetensorsHeader,
  lengths: readonly number[],
): Promise<CrossCache> {
  const dtype = header.metadata.get("crossDtype") === "float16" ? "float16" : "float32";
  using owned = new DisposableStack();
  const layers = await readLayers(file, header, (t) => owned.use(t), model, { part: "cross", dtype });
  return layers.length ? CrossCache.of(DynamicCache.fromLegacyCache(layers, lengths)) : new CrossCache(dtype);
}

async function readLayers(
  file: ModelFile,
  { tensors }: SafetensorsHeader,
  own: (t: Tensor) => Tensor,
  { device }: Model,
  { part, dtype }: { part: PartName; dtype: CacheDtype },
): Promise<LegacyCache> {
  const layers: [Tensor, Tensor][] = [], count = tensors.keys().filter((name) => name.startsWith(`${part}.`));
  for (const layer of Array(Math.ceil([...count].length / 2)).keys()) {
    const pair: Tensor[] = [];
    for (const which of ["key", "value"]) {
      const name = `${part}.${layer}.${which}`, info = tensors.get(name);
      if (!info || info.shape.length !== 4 || info.dtype !== DTYPES[dtype]) {
        throw new ModelFormatError(
          `Cannot load the cache as ${file.name} must have ${name} [B, Hkv, S, Dh] in ${dtype}: it has ` +
            (info ? `${info.dtype} [${info.shape}]` : "none"),
        );
      }
      const bytes = (await file.read(info.start, info.end - info.start)).slice().buffer;
      const data = dtype === "float16" ? new Float16Array(bytes) : new Float32Array(bytes);
      pair.push(own(tensor(device, data, info.shape, dtype)));
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
