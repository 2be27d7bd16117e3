import type { Batch, Cache } from "../cache/mod.ts";
import type { Recording } from "../gpu/stream.ts";
import type { Model } from "../models/mod.ts";
import { enabledBackends } from "../ops/sdpa_kernel.ts";
import { keep, type Tensor, tensor, tidy } from "../tensor/mod.ts";

/** Steps of each cache that are recorded, or will be. */
const steps = new WeakMap<Cache, DecodeStep>();

/** What a step is recorded with. */
export interface RecordedStep {
  /** What to replay. */
  recording: Recording;
  /** [T, V], of every token: what each replay writes. */
  logits: Tensor;
}

/** Where the input of a step lies, if not in tensors of its own; the step disposes of them. */
export type StepInput = Pick<Batch, "tokens" | "positions">;

/**
 * The model's part of a decode step: a few tokens of each row in, mostly one, and logits after each of them out. It is
 * recorded against the buffers of one cache, so it lives as long as they do, and every generation with that cache replays
 * it.
 */
export class DecodeStep implements Disposable {
  /** [T] uint32: the input. */
  readonly tokens: Tensor;
  /** [T] uint32: where the input stands. */
  readonly positions: Tensor;
  /** [B + 1] uint32: where each row's tokens begin. */
  readonly cuSeqlens: Tensor;
  readonly #model: Model;
  readonly #cache: Cache;
  readonly #tokenTypes: Tensor;
  readonly #lengths: readonly number[];
  #recorded: RecordedStep & { until: number; generation: number; kernels: string } | undefined;
  #users = 0;
  #kept = false;

  /** A step of rows of these lengths, not recorded yet; see {@linkcode DecodeStep.of}. */
  constructor(model: Model, cache: Cache, lengths: readonly number[], input?: StepInput) {
    const { device } = model;
    using made = new DisposableStack();
    const put = (data: readonly number[]) => made.use(keep(device, tensor(device, data, [data.length], "uint32")));
    const ends = lengths.reduce((sums, n) => [...sums, sums.at(-1)! + n], [0]);
    const zeros = Array<number>(ends.at(-1)!).fill(0);
    this.#lengths = lengths;
    this.#model = model;
    this.#cache = cache;
    this.tokens = made.use(input?.tokens ?? put(zeros));
    this.positions = made.use(input?.positions ?? put(zeros));
    this.#tokenTypes = put(zeros);
    this.cuSeqlens = put(ends);
    made.move(); // nothing failed: they are the step's
  }

  /**
   * The step of one token of each of `size` rows, the one of an earlier generation where there is one. Dispose of it after
   * use.
   */
  static of(model: Model, cache: Cache, size: number): DecodeStep {
    const known = steps.get(cache);
    if (known && known.#model === model && known.#lengths.length === size && known.#users === 0) {
      known.#users++;
      return known;
    }
    const step = new DecodeStep(model, cache, Array<number>(size).fill(1));
    step.#users++;
    if (!known && cache.keepWith) {
      step.#kept = true;
      steps.set(cache, step);
      cache.keepWith({ [Symbol.dispose]: () => step.#forget() });
    }
    return step;
  }

  /** Logits [T, V] of the tokens, computed now; they belong to the caller. */
  run(maxPosition: number): Tensor {
    const batch = this.#batch(maxPosition), model = this.#model;
    if (batch.total === batch.size) return model.nextLogits(batch, this.#cache);
    return tidy(model.device, () => model.applyHead(model.hidden(batch, this.#cache), batch));
  }

  /**
   * The recording, and the logits that each replay of it writes; undefined where none serves all lengths.
   *
   * @param from positions of the longest row with the next token
   * @param until positions of the longest row at the end
   */
  recorded(from: number, until: number): RecordedStep | undefined {
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
    const { tokens, positions, cuSeqlens } = this, lengths = this.#lengths;
    return {
      tokens,
      positions,
      cuSeqlens,
      tokenTypes: this.#tokenTypes,
      size: lengths.length,
      total: tokens.size,
      lengths,
      maxPosition,
      [Symbol.dispose]() {},
    };
  }
}
