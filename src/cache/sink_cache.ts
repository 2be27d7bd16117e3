import { LimitError, ValueError } from "../errors.ts";
import { type Device, kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/sink_positions.wgsl" with { type: "text" };
import { empty } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { CacheState } from "./cache_state.ts";
import { type CacheDtype, KvCache } from "./kv_cache.ts";
import type { LayerStore, StoreSpec } from "./layer_store.ts";
import { ringShape } from "./rings.ts";
import { SinkStore } from "./sink_store.ts";
import { ENDLESS, expectCount } from "./sliding_window_cache.ts";
import type { CacheProperties } from "./properties.ts";

const place = kernel("sink_positions", wgsl);

/** What a {@linkcode SinkCache} takes. */
export interface SinkCacheOptions {
  /** Tokens that are kept, the sinks included. */
  windowLength: number;
  /** Tokens at the front that are always kept. */
  numSinkTokens: number;
  /** What keys and values are stored in. Default "float32". */
  dtype?: CacheDtype;
  /** "446": positions as Transformers 4.46 gives them, which drift by one; for comparing with it only. */
  compat?: "446";
}

/**
 * A cache that keeps the first tokens and the last ones, so that a model goes on for ever in constant memory: attention
 * sinks. Tokens stand at their slots. The first input must have at most `windowLength` tokens, later ones at most
 * `windowLength - numSinkTokens`; up to 64 tokens can be cropped.
 *
 * Sources: https://arxiv.org/abs/2309.17453, Transformers' `SinkCache`.
 *
 * @throws {ValueError} if the sizes are not whole numbers, or the sinks leave no room
 *
 * @example
 * ```ts
 * import { SinkCache } from "@tensaur/tensaur";
 * using cache = new SinkCache({ windowLength: 256, numSinkTokens: 4 });
 * console.log(cache.getMaxCacheShape()); // 256
 * ```
 */
export class SinkCache extends KvCache {
  /** What it is good for. */
  static readonly properties: CacheProperties = {
    memoryEfficient: true,
    compile: false,
    initRecommended: true,
    latency: "mid",
    longContext: true,
  };
  /** A pass of several tokens lets go of keys that its first ones would see one by one. */
  readonly movesByPass = true;
  /** Tokens that are kept. */
  readonly windowLength: number;
  /** Tokens at the front that are always kept. */
  readonly numSinkTokens: number;
  readonly #options: SinkCacheOptions;

  /** An empty cache. */
  constructor(options: SinkCacheOptions) {
    super(options.dtype ?? "float32");
    const { windowLength, numSinkTokens } = options;
    expectCount("SinkCache", "windowLength", windowLength);
    expectCount("SinkCache", "numSinkTokens", numSinkTokens, 0);
    if (numSinkTokens >= windowLength) {
      throw new ValueError(
        `Cannot make a SinkCache as numSinkTokens must be less than windowLength: they are ${numSinkTokens} and ` +
          `${windowLength}`,
      );
    }
    this.windowLength = windowLength;
    this.numSinkTokens = numSinkTokens;
    this.#options = options;
  }

  /** Tokens that are kept. */
  override getMaxCacheShape(): number {
    return this.windowLength;
  }

  /** Tokens that are there: at most the window. */
  override getSeqLength(layer = 0): number {
    return Math.min(this.windowLength, super.getSeqLength(layer));
  }

  /** The batch with its tokens at their slots, for models that learned their positions; others need but distances. */
  prepare(batch: Batch, rotary: boolean): Batch {
    const drift = this.#options.compat === "446";
    if (rotary && !drift) return batch;
    const { device } = batch.tokens, positions = empty(device, [batch.total], "uint32");
    place(device, {
      flags: { DRIFT: rotary && drift },
      overrides: { WINDOW: this.windowLength },
      bindings: { past: this.pastOn(device), cuSeqlens: batch.cuSeqlens, positions },
      grid: [batch.size],
    });
    return { ...batch, positions, maxPosition: rotary ? batch.maxPosition + 2 : this.windowLength };
  }

  /** The first input must fit. */
  protected override admit(tokens: readonly number[], lengths: readonly number[]): void {
    const row = tokens.findIndex((n, b) => lengths[b] === 0 && n > this.windowLength);
    if (row === -1) return;
    throw new LimitError(
      `Cannot run the prompt as the first input of a SinkCache must have at most its ${this.windowLength} tokens: ` +
        `row ${row} has ${tokens[row]}`,
      { hint: "Keep the last tokens of the prompt: row.slice(-cache.getMaxCacheShape())." },
    );
  }

  /** False: its keys are not those that a model made. */
  override get isExact(): boolean {
    return false;
  }

  /** All that it holds, as it lies. */
  override get state(): CacheState {
    return this.stateOf("sink", { ...this.#options, dtype: this.dtype });
  }

  /** A cache of what {@linkcode SinkCache.state} gave; the tensors are copied. */
  static restore(state: CacheState, device: Device): SinkCache {
    return new SinkCache(state.options as unknown as SinkCacheOptions).resume(state, device);
  }

  /** A sequence may have any length. */
  protected override room(): number {
    return ENDLESS;
  }

  /** A ring behind sinks. */
  protected override newStore(spec: StoreSpec): LayerStore {
    const { windowLength, numSinkTokens, compat } = this.#options;
    return new SinkStore(spec, ringShape(windowLength, numSinkTokens), compat === "446");
  }

  /** A new, empty cache of the same kind. */
  protected override another(): KvCache {
    return new SinkCache(this.#options);
  }
}
