import { attention, attentionWeights, kvLayout } from "../ops/attention.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { Batch } from "./batch.ts";
import type { AttentionOptions, Cache } from "./cache.ts";

/** Attends over the batch itself and keeps nothing: for encoders, and for decoders run once. */
export class NoCache implements Cache {
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
    const kv = { k, v, geometry };
    options.weights?.push(attentionWeights(q, kv, batch.cuSeqlens, Math.max(...batch.lengths)));
    return attention(q, kv, batch.cuSeqlens);
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
    return new NoCache();
  }

  /** Has nothing to forget. */
  reset(): void {}
  /** Owns nothing. */
  [Symbol.dispose](): void {}
}
