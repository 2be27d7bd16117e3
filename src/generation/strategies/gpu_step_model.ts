/**
 * A loaded model and a cache as a {@linkcode StepModel}: packed batches in, logits on the host out.
 *
 * @module
 */
import { type Batch, type Cache, packBatch } from "../../cache/mod.ts";
import { NumericError, throwIfAborted } from "../../errors.ts";
import type { Model } from "../../models/mod.ts";
import { gatherRows, NO_INDEX, type TopK, topK } from "../../ops/mod.ts";
import { keep, type Tensor, tensor, tidy } from "../../tensor/mod.ts";
import { paddedAttentions, paddedRows, splitRows } from "./padded_outputs.ts";
import type { StepModel, StepOutput, StepRequest, TopTokens } from "./step_model.ts";

/** How a {@linkcode GpuStepModel} runs. */
export interface GpuStepOptions {
  /** Most tokens of a prompt to run at once. */
  prefillChunkSize: number;
  /** Stops a prefill between its chunks. */
  signal?: AbortSignal;
  /** Whether the cache is kept from step to step; if not, all is run anew. Default true. */
  useCache?: boolean;
}

/** Tensors of one pass, to be read and returned. */
interface PassTensors {
  logits?: Tensor;
  top?: TopK;
  hidden?: Tensor;
  layers: Tensor[];
  hiddenStates: Tensor[];
  attentions: Tensor[];
}

/** Runs what the cache does not hold, in chunks, and reads what is asked for. The cache stays the caller's. */
export class GpuStepModel implements StepModel {
  readonly #model: Model;
  readonly #cache: Cache;
  readonly #o: GpuStepOptions;

  /** A model with `cache`, which may hold prefixes of what comes. */
  constructor(model: Model, cache: Cache, o: GpuStepOptions) {
    this.#model = model;
    this.#cache = cache;
    this.#o = o;
  }

  /** V. */
  get vocabSize(): number {
    return this.#model.sizes.vocabSize;
  }

  /** Whether the output layer is the embedding. */
  get tied(): boolean {
    return this.#model.config.tie_word_embeddings === true;
  }

  /** Number of layers. */
  get layers(): number {
    return this.#model.sizes.attention.length;
  }

  /** See {@linkcode StepModel.forward}. */
  async forward(ids: readonly (readonly number[])[], request: StepRequest = {}): Promise<StepOutput> {
    if (this.#o.useCache === false) this.#cache.reset();
    const { last = 1 } = request, past = [...this.#past(ids.length)];
    this.#cache.reserve(ids.length, ids.map((row, b) => row.length - past[b]!));
    const whole = request.hidden || request.hiddenStates || request.attentions;
    if (!whole) await this.#prefill(ids, last);
    const start = [...this.#past(ids.length)];
    const pieces = ids.map((row, b) => row.slice(start[b]));
    using batch = this.#batch(pieces, start);
    const made = this.#pass(batch, request);
    try {
      return await this.#read(made, batch, start, request);
    } finally {
      for (const t of tensorsOf(made)) t.dispose();
    }
  }

  /** See {@linkcode StepModel.select}. */
  select(rows: readonly number[]): Promise<void> {
    const same = rows.length === this.#cache.lengths.length;
    if (!same) this.#cache.batchSelectIndices(rows);
    else if (rows.some((row, b) => row !== b)) this.#cache.reorder(rows);
    return Promise.resolve();
  }

  /** See {@linkcode StepModel.crop}. */
  crop(lengths: readonly number[]): void {
    const kept = this.#cache.lengths.map((n, b) => Math.min(n, lengths[b]!));
    if (kept.some((n, b) => n !== this.#cache.lengths[b])) this.#cache.crop(kept);
  }

  #past(rows: number): readonly number[] {
    return this.#cache.lengths.length ? this.#cache.lengths : Array<number>(rows).fill(0);
  }

  /** Runs all but the last chunk, aligned to the rows' ends. */
  async #prefill(ids: readonly (readonly number[])[], last: number): Promise<void> {
    const size = Math.max(this.#o.prefillChunkSize, last), past = [...this.#past(ids.length)];
    const chunks = Math.ceil(Math.max(...ids.map((row, b) => row.length - past[b]!)) / size);
    for (let chunk = 0; chunk < chunks - 1; chunk++) {
      throwIfAborted(this.#o.signal, "generating");
      const left = (chunks - chunk) * size;
      const from = ids.map((row, b) => Math.max(past[b]!, row.length - left));
      const pieces = ids.map((row, b) => row.slice(from[b], Math.max(past[b]!, row.length - left + size)));
      using batch = this.#batch(pieces, from);
      tidy(this.#model.device, () => this.#model.hidden(batch, this.#cache)).dispose();
      this.#cache.advanced(batch.lengths);
      await this.#model.device.synchronize(); // bounds the work in flight, and lets an abort through
    }
  }

  #batch(pieces: readonly (readonly number[])[], from: readonly number[]): Batch {
    const positions = pieces.flatMap((piece, b) => piece.map((_, i) => from[b]! + i));
    return packBatch(this.#model.device, pieces.flat(), positions, pieces.map((piece) => piece.length));
  }

  /** Records the pass; the cache has the batch from then on. */
  #pass(batch: Batch, { last = 1, top, hidden, layers, attentions, hiddenStates }: StepRequest): PassTensors {
    const { device } = this.#model, ends = runningSum(batch.lengths);
    const rows = (n: number) => ends.flatMap((end) => Array.from({ length: n }, (_, i) => end - n + i));
    const made = tidy(device, () => {
      const all: Tensor[] | undefined = hiddenStates || layers ? [] : undefined;
      const weights: Tensor[] | undefined = attentions ? [] : undefined;
      const x = this.#model.hidden(batch, this.#cache, { hiddenStates: all, attentions: weights });
      const at = (t: Tensor, n: number) => {
        return this.#model.applyHead(gatherRows(t, tensor(device, rows(n), [n * batch.size], "uint32")), batch);
      };
      const logits = at(x, last);
      return {
        ...top ? { top: topK(logits, top) } : { logits },
        hidden: hidden ? x : undefined,
        layers: layers?.map((layer) => at(all![layer]!, 1)) ?? [],
        hiddenStates: hiddenStates ? all! : [],
        attentions: weights ?? [],
      };
    });
    for (const t of tensorsOf(made)) keep(device, t);
    this.#cache.advanced(batch.lengths);
    return made;
  }

  async #read(made: PassTensors, batch: Batch, past: readonly number[], request: StepRequest): Promise<StepOutput> {
    const host = async (t: Tensor) => await t.read({ early: true }) as Float32Array;
    const [logits, top, hidden, layers, states, weights] = await Promise.all([
      made.logits && host(made.logits),
      made.top && readTop(made.top),
      made.hidden && host(made.hidden),
      Promise.all(made.layers.map(host)),
      Promise.all(made.hiddenStates.map(host)),
      Promise.all(made.attentions.map(host)),
    ]);
    await this.#model.device.stream.settled();
    throwIfAborted(this.#o.signal, "generating");
    if (logits && !logits.every(Number.isFinite) || top?.some(({ tokens }) => tokens[0] === NO_INDEX)) {
      throw notFinite();
    }
    const { lengths } = batch, D = this.#model.sizes.hiddenSize, V = this.vocabSize;
    return {
      logits: logits ? splitRows(logits, V) : [],
      top,
      hidden: hidden &&
        lengths.map((n, b) => hidden.slice((runningSum(lengths)[b]! - n) * D, runningSum(lengths)[b]! * D)),
      layers: request.layers && layers.map((data) => splitRows(data, V)),
      hiddenStates: request.hiddenStates ? states.map((data) => paddedRows(data, lengths)) : undefined,
      attentions: request.attentions ? weights.map((data) => paddedAttentions(data, lengths, past)) : undefined,
    };
  }
}

/** Where each sequence of a packed batch ends. */
function runningSum(lengths: readonly number[]): number[] {
  let sum = 0;
  return lengths.map((n) => sum += n);
}

function tensorsOf({ top, ...rest }: PassTensors): Tensor[] {
  return [top?.indices, top?.logProbs, ...Object.values(rest).flat()].filter((t) => t !== undefined);
}

async function readTop({ indices, logProbs }: TopK): Promise<TopTokens[]> {
  const [rows = 0, k = 0] = indices.shape;
  const [ids, scores] = await Promise.all([indices.read({ early: true }), logProbs.read({ early: true })]);
  return Array.from({ length: rows }, (_, r) => ({
    tokens: ids.subarray(r * k, (r + 1) * k) as Uint32Array,
    logProbs: scores.subarray(r * k, (r + 1) * k) as Float32Array,
  }));
}

function notFinite(): NumericError {
  return new NumericError("Cannot choose the next tokens as the logits must be finite: they are NaN or infinite", {
    hint: 'Load the model with dtype: "float32", or check the weights.',
  });
}
