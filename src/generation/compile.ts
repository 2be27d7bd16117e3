/**
 * `compile`: what the first generations would have to make, made before them.
 *
 * @module
 */
import { type Cache, StaticCache } from "../cache/mod.ts";
import { throwIfAborted, ValueError } from "../errors.ts";
import type { KernelVariant } from "../gpu/mod.ts";
import type { Model } from "../models/mod.ts";
import { encodeNothing, generates, passKernels } from "../models/warm_up.ts";
import { argmax, gatherRows, topK } from "../ops/mod.ts";
import { empty, tensor, tidy } from "../tensor/mod.ts";
import { Decoder } from "./decoder.ts";
import type { GenerationOptions } from "./options.ts";
import { cacheFor } from "./prompts.ts";
import { resolveOptions } from "./resolve.ts";
import { SpeculationRounds } from "./strategies/speculation_rounds.ts";

/** What {@linkcode compile} takes. */
export interface CompileOptions {
  /** Most rows of a batch. Default 1. */
  maxBatch?: number;
  /** Most tokens of a row, prompt included. Default: the model's positions, at most 4,096. */
  maxLength?: number;
  /** Options that generations will have: their kernels are compiled too. Default: greedy, and drawn with the defaults. */
  generation?: GenerationOptions;
  /** Stops the work. */
  signal?: AbortSignal;
}

/** A cache that a generation uses and gives back. */
export interface LentCache extends Disposable {
  /** Empty, with room for what was asked. */
  cache: Cache;
}

const MAX_LENGTH = 4096; // a cache for all positions of a long-context model would take more than its weights

const TWO_STEPS = { maxNewTokens: 2, eosTokenId: null } as const;

/** Lengths of prompts at which kernels may change: one row, a few, a tile's edges, many. */
const PROMPTS = [1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 128, 256, 512];

/** Widths of windows of speculative decoding at which kernels may change. */
const WINDOWS = [1, 2, 4, 8, 16];

const compiled = new WeakMap<Model, CompiledCaches>();

/**
 * Makes a model ready to generate: compiles the kernels of prompts and decode steps, makes a static cache and records a
 * decode step for batches of 1 and of `maxBatch` rows. {@linkcode generate} and {@linkcode stream} then use these by
 * themselves wherever batch and length fit and no cache is passed; a batch of another size gets its own cache when it
 * first comes. The memory is the model's, and returned with it; compiling again replaces what there was.
 *
 * Of an encoder-decoder the rows are the decoder's, and a step is recorded anew where the encoder's rows have other lengths
 * than in the generation before; those of a speech model never have.
 *
 * Source: `torch.compile(mode="reduce-overhead")` with a static cache.
 *
 * @throws {ValueError} if the model generates no text, or an option is not a whole number from 1
 * @throws {OutOfMemoryError} if the caches do not fit
 * @throws {AbortError} if `signal` fires
 *
 * @example
 * ```ts
 * import { compile, generate, loadModel, loadTokenizer } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * await compile(model, { maxLength: 256 });
 * const { sequences } = await generate(model, tokenizer("Once upon a time"), { maxNewTokens: 8 });
 * console.log(sequences[0]!.length);
 * ```
 */
export async function compile(model: Model, options: CompileOptions = {}): Promise<void> {
  const { maxPositionEmbeddings } = model.sizes;
  const { maxBatch = 1, maxLength = Math.min(maxPositionEmbeddings, MAX_LENGTH), signal } = options;
  if (!generates(model)) {
    throw new ValueError(`Cannot compile as the model must generate text: its task is "${model.task}"`);
  }
  for (const [name, value] of Object.entries({ maxBatch, maxLength })) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new ValueError(`Cannot compile as ${name} must be a whole number from 1: current value is ${value}`);
  }
  throwIfAborted(signal, "compiling");
  const sizes = [...new Set([1, maxBatch])];
  const prompts = PROMPTS.filter((n) => n <= Math.min(maxLength, maxPositionEmbeddings));
  const batches = [...prompts.map((n) => [n]), ...sizes.map((size) => Array<number>(size).fill(1))];
  const { kernels, tuning } = model.device;
  const { generation } = options, speculates = generation?.assistantModel || generation?.promptLookupNumTokens;
  const variants = () => [
    ...passKernels(model, batches),
    ...choiceKernels(model, sizes, generation),
    ...speculates ? windowKernels(model) : [],
  ];
  let needed = variants();
  if (await tuning.settle({ signal }) > 0) needed = variants();
  await kernels.compile(needed, { signal });
  compiled.get(model)?.[Symbol.dispose]();
  const caches = new CompiledCaches(model, maxBatch, maxLength);
  compiled.set(model, caches);
  model.keepWith(caches);
  for (const size of sizes) await caches.prepare(size);
}

/** A cache of a compiled model for a generation of `size` rows of up to `length` tokens; undefined where none fits. */
export function lendCache(model: Model, size: number, length: number): LentCache | undefined {
  return compiled.get(model)?.lend(size, length);
}

/** The kernels that choose tokens with these options, else greedily and by drawing. */
function choiceKernels(model: Model, sizes: readonly number[], generation?: GenerationOptions): KernelVariant[] {
  const { device } = model, V = model.sizes.vocabSize;
  const all = generation ? [generation] : [{ doSample: false }, { doSample: true }];
  return device.kernels.collect(() => {
    for (const size of sizes) {
      for (const options of all) {
        using cache = model.newCache();
        using decoder = new Decoder(model, rowsOf(size), cache, resolveOptions(model, { ...options, ...TWO_STEPS }, 1));
        tidy(device, () => decoder.choose(decoder.process(tensor(device, new Float32Array(size * V), [size, V]))));
      }
    }
  });
}

/** The kernels that choose the first token of speculative decoding, and that check drafts. */
function windowKernels(model: Model): KernelVariant[] {
  const { device, sizes: { vocabSize: V } } = model;
  return device.kernels.collect(() => {
    tidy(device, () => void topK(gatherRows(empty(device, [1, V]), tensor(device, [0], [1], "uint32")), 1));
    for (const width of WINDOWS) {
      using cache = model.newCache();
      encodeNothing(model, cache, [width]);
      cache.reserve(1, [width]);
      using rounds = new SpeculationRounds(model, cache, width, argmax);
      rounds.check(width - 1).run(width);
    }
  });
}

/** `size` prompts of one token. */
function rowsOf(size: number): number[][] {
  return Array.from({ length: size }, () => [0]);
}

/** Static caches of one model, one for each size of batch. */
class CompiledCaches implements Disposable {
  readonly #model: Model;
  readonly #maxBatch: number;
  readonly #maxLength: number;
  readonly #caches = new Map<number, Cache>();
  readonly #lent = new Set<Cache>();
  #disposed = false;

  constructor(model: Model, maxBatch: number, maxLength: number) {
    this.#model = model;
    this.#maxBatch = maxBatch;
    this.#maxLength = maxLength;
  }

  /** Makes the cache for batches of `size`, and records a step with it. */
  async prepare(size: number): Promise<void> {
    using lent = this.lend(size, Math.min(2, this.#maxLength));
    if (!lent || this.#maxLength < 2) return;
    const model = this.#model, o = resolveOptions(model, { ...TWO_STEPS, doSample: false }, 1);
    encodeNothing(model, lent.cache, Array<number>(size).fill(1));
    using decoder = new Decoder(model, rowsOf(size), lent.cache, o);
    using logits = await decoder.prefill();
    decoder.choose(logits);
    decoder.step(1, 2);
    await model.device.synchronize();
  }

  lend(size: number, length: number): LentCache | undefined {
    if (this.#disposed || size > this.#maxBatch || length > this.#maxLength) return undefined;
    const known = this.#caches.get(size);
    if (known && this.#lent.has(known)) return undefined; // two generations at once
    const model = this.#model;
    const cache = known ?? cacheFor(model, new StaticCache({ maxCacheLen: this.#maxLength, dtype: model.cacheDtype }));
    this.#caches.set(size, cache);
    this.#lent.add(cache);
    return {
      cache,
      [Symbol.dispose]: () => {
        this.#lent.delete(cache);
        if (this.#disposed) cache[Symbol.dispose]();
        else if (!model.device.guard.error) cache.reset();
      },
    };
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const cache of this.#caches.values()) if (!this.#lent.has(cache)) cache[Symbol.dispose]();
    this.#caches.clear();
  }
}
