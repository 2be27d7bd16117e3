import { attention, attentionWeights, kvLayout } from "../ops/attention.ts";
import { cast } from "../ops/cast.ts";
import { enabledBackends } from "../ops/sdpa_kernel.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { AttentionOptions, Cache } from "./cache.ts";
import type { CacheDtype } from "./kv_cache.ts";

/** Attends over the batch itself and keeps nothing: for encoders, and for decoders run once. */
export class NoCache implements Cache {
  readonly #dtype: CacheDtype;

  /** Of nothing; `dtype` is what keys and values may be rounded to where only the flash kernel may run. */
  constructor({ dtype = "float32" }: { dtype?: CacheDtype } = {}) {
    this.#dtype = dtype;
  }

  /** Nothing is kept. */
  readonly byteLength = 0;
  /** Nothing ever moves. */
  readonly generation = 0;

  /** No sequence has a past. */
  get lengths(): readonly number[] {
    return [];
  }

  /** Needs no room. */
  reserve(): void {}

  /** Attends over the batch's own keys. */
  attend(_layer: number, q: Tensor, k: Tensor, v: Tensor, batch: Batch, options: AttentionOptions): Tensor {
    const [, heads = 0] = q.shape;
    const [, kvHeads = 0, dim = 0] = k.shape;
    const strides = { sequenceStride: 0, headStride: dim, keyStride: kvHeads * dim };
    const geometry = kvLayout(q.device, { heads, kvHeads, ...strides, ...options });
    const onlyFlash = enabledBackends().every((name) => name === "flash");
    const stored = (x: Tensor) => onlyFlash && this.#dtype !== x.dtype ? cast(x, this.#dtype) : x;
    const kv = { k: stored(k), v: stored(v), geometry };
    const call = { bias: options.relativeBias };
    options.weights?.push(attentionWeights(q, kv, batch.cuSeqlens, Math.max(...batch.lengths), call));
    return attention(q, kv, batch.cuSeqlens, call);
  }

  /** Keeps nothing. */
  advance(): void {}
  /** Keeps nothing. */
  advanced(): void {}
  /** Has nothing to forget. */
  crop(): void {}
  /** Has nothing to reorder. */
  reorder(): void {}
  /** Has nothing to select. */
  batchSelectIndices(): void {}

  /** Another of the same. */
  fork(): Cache {
    return new NoCache({ dtype: this.#dtype });
  }

  /** Has nothing to forget. */
  reset(): void {}
  /** Owns nothing. */
  [Symbol.dispose](): void {}
}
