import type { Batch, Cache } from "../cache/mod.ts";
import type { Recording } from "../gpu/stream.ts";
import type { Model } from "../models/mod.ts";
import { enabledBackends } from "../ops/sdpa_kernel.ts";
import { keep, type Tensor, tensor } from "../tensor/mod.ts";

/** Steps of each cache that are recorded, or will be. */
const steps = new WeakMap<Cache, DecodeStep>();

/**
 * The model's part of a decode step: one token of each row in, logits out. It is recorded against the buffers of one
 * cache, so it lives as long as they do, and every generation with that cache replays it.
 */
export class DecodeStep implements Disposable {
  /** [B] uint32: the input. */
  readonly tokens: Tensor;
  /** [B] uint32: where the input stands. */
  readonly positions: Tensor;
  /** [B + 1] uint32: a token a row. */
  readonly cuSeqlens: Tensor;
  readonly #model: Model;
  readonly #cache: Cache;
  readonly #size: number;
  readonly #tokenTypes: Tensor;
  readonly #lengths: readonly number[];
  #recorded: { recording: Recording; logits: Tensor; until: number; generation: number; kernels: string } | undefined;
  #users = 0;
  #kept = false;

  /** A step of `size` rows, not recorded yet; see {@linkcode DecodeStep.of}. */
  constructor(model: Model, cache: Cache, size: number) {
    const { device } = model;
    const put = (data: readonly number[]) => keep(device, tensor(device, data, [data.length], "uint32"));
    const zeros = Array<number>(size).fill(0);
    this.#lengths = zeros.map(() => 1);
    this.#model = model;
    this.#cache = cache;
    this.#size = size;
    this.tokens = put(zeros);
    this.positions = put(zeros);
    this.#tokenTypes = put(zeros);
    this.cuSeqlens = put([...zeros.keys(), size]);
  }

  /** The step of `model` with `cache`, the one of an earlier generation where there is one. Dispose of it after use. */
  static of(model: Model, cache: Cache, size: number): DecodeStep {
    const known = steps.get(cache);
    if (known && known.#model === model && known.#size === size && known.#users === 0) {
      known.#users++;
      return known;
    }
    const step = new DecodeStep(model, cache, size);
    step.#users++;
    if (!known && cache.keepWith) {
      step.#kept = true;
      steps.set(cache, step);
      cache.keepWith({ [Symbol.dispose]: () => step.#forget() });
    }
    return step;
  }

  /** Logits [B, V] of the tokens, computed now; they belong to the caller. */
  run(maxPosition: number): Tensor {
    return this.#model.nextLogits(this.#batch(maxPosition), this.#cache);
  }

  /**
   * The recording, and the logits [B, V] that each replay of it writes; undefined where none serves all lengths.
   *
   * @param from positions of the longest row with the next token
   * @param until positions of the longest row at the end
   */
  recorded(from: number, until: number): { recording: Recording; logits: Tensor } | undefined {
    if (this.#cache.replayable === false) return undefined;
    const { generation } = this.#cache, known = this.#recorded;
    const kernels = `${this.#model.attnImplementation} ${enabledBackends()}`; // what was recorded attends as it did then
    const holds = known?.generation === generation && known.kernels === kernels && known.until >= until;
    if (holds && this.#model.prepareReplay(from, known.until)) return known;
    const reach = this.#reach(from, until);
    if (!reach) return undefined;
    this.#discard();
    let logits: Tensor | undefined;
    const recording = this.#model.device.stream.capture(() => {
      logits = keep(this.#model.device, this.run(reach));
    });
    this.#recorded = { recording, logits: logits!, until: reach, generation, kernels };
    return this.#recorded;
  }

  /** Ends one use. */
  [Symbol.dispose](): void {
    this.#users--;
    if (!this.#kept) this.#free();
  }

  /** As far as a recording can serve: to where the rotary table ends, so that a longer run finds it made. */
  #reach(from: number, until: number): number | undefined {
    const further = Math.min(2 ** Math.ceil(Math.log2(until)), this.#model.sizes.maxPositionEmbeddings);
    return [Math.max(until, further), until].find((reach) => this.#model.prepareReplay(from, reach));
  }

  /** The cache's buffers are gone. */
  #forget(): void {
    steps.delete(this.#cache);
    this.#kept = false;
    this.#free();
  }

  #free(): void {
    if (this.#users > 0) return;
    this.#discard();
    for (const t of [this.tokens, this.positions, this.cuSeqlens, this.#tokenTypes]) t.dispose();
  }

  #discard(): void {
    this.#recorded?.logits.dispose();
    this.#recorded?.recording.dispose();
    this.#recorded = undefined;
  }

  #batch(maxPosition: number): Batch {
    const { tokens, positions, cuSeqlens } = this, tokenTypes = this.#tokenTypes, size = this.#size;
    const lengths = this.#lengths;
    return {
      tokens,
      positions,
      cuSeqlens,
      tokenTypes,
      size,
      total: size,
      lengths,
      maxPosition,
      [Symbol.dispose]() {},
    };
  }
}
