/**
 * A loaded model: padded rows in, padded tensors out, packed in between.
 *
 * @module
 */
import type { Batch, Cache, ModelInputs } from "../cache/mod.ts";
import { LimitError, ValueError } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import { poolRows } from "../ops/mod.ts";
import { keep, type Tensor, tidy } from "../tensor/mod.ts";
import type { BitsAndBytesConfig } from "../quantization/bitsandbytes_config.ts";
import type { QuantizationState } from "../quantization/scheme.ts";
import type { WeightDtype } from "../weights/source.ts";
import {
  attending,
  type AttnImplementation,
  cacheDtypeOf,
  checkSupported,
  flashAfterConversion,
  implementationFor,
} from "./attention_implementation.ts";
import { isBetterTransformer } from "./better_transformer.ts";
import type { ConfigJson } from "./config.ts";
import { crossPart, decoderInputs, encodeInto, encoderColumns, type EncoderDecoderInputs } from "./encoder_decoder.ts";
import { encoderOutputs } from "./encoder_outputs.ts";
import { explainModel, type ModelReport } from "./explain_model.ts";
import type { ApplyHead, Collected, FamilyConfig, Pass, Task } from "./family.ts";
import { forwardRows, orRewind } from "./forward_rows.ts";
import type { ForwardOptions, ModelOutput } from "./model_output.ts";
import { newCacheOf, passingCacheOf } from "./model_cache.ts";
import type { ModelParts } from "./model_parts.ts";
import { RopeTable } from "./rope.ts";

export type { EncoderDecoderInputs, ForwardOptions, ModelOutput, ModelParts };

/** A model on a device. Make one with {@linkcode loadModel}. */
export class Model implements Disposable {
  readonly #parts: ModelParts;
  readonly #rope: RopeTable | undefined;
  #attention: AttnImplementation;
  readonly #kept: Disposable[] = [];
  #disposed = false;

  /** Use {@linkcode loadModel}. */
  constructor(parts: ModelParts) {
    this.#parts = parts;
    this.#attention = parts.attnImplementation;
    const rope = parts.family.rope?.(parts.config);
    this.#rope = rope && new RopeTable(parts.device, rope);
  }

  /** The device it is on. */
  get device(): Device {
    return this.#parts.device;
  }

  /** The parsed config.json, with its own keys. */
  get config(): ConfigJson {
    return this.#parts.json;
  }

  /** The parsed generation_config.json, with its own keys; empty where there is none. */
  get generationConfig(): ConfigJson {
    return this.#parts.generationConfig;
  }

  /** What it was loaded for. */
  get task(): Task {
    return this.#parts.task;
  }

  /** What matrices are kept as. */
  get dtype(): WeightDtype {
    return this.#parts.dtype;
  }

  /** How it is quantized; undefined where it is not. */
  get quantization(): QuantizationState | undefined {
    return this.#parts.quantization;
  }

  /** How it was quantized while it was loaded; undefined where it was not. */
  get quantizationConfig(): BitsAndBytesConfig | undefined {
    return this.#parts.quantizationConfig;
  }

  /** Bytes of GPU memory that its weights take. */
  getMemoryFootprint(): number {
    return this.#parts.byteLength;
  }

  /** Sizes that generation needs: vocabulary, positions, heads. */
  get sizes(): FamilyConfig {
    return this.#parts.config;
  }

  /** The model's folder. */
  get path(): string {
    return this.#parts.path;
  }

  /** The GGUF file in it that the model was loaded from; undefined where it was none. */
  get ggufFile(): string | undefined {
    return this.#parts.ggufFile;
  }

  /** How it attends: "eager", "sdpa" or "flash_attention_2". */
  get attnImplementation(): AttnImplementation {
    return this.#attention;
  }

  /** Whether the caller of `loadModel` chose that. */
  get attnImplementationGiven(): boolean {
    return this.#parts.attnImplementationGiven;
  }

  /**
   * Attends otherwise from now on.
   *
   * @throws {ValueError} if the architecture does not support it, or flash attention is wanted of a BetterTransformer
   */
  setAttnImplementation(implementation: AttnImplementation): void {
    checkSupported(this.config, implementation);
    if (implementation === "flash_attention_2" && isBetterTransformer(this)) throw flashAfterConversion();
    this.#attention = implementation;
  }

  /** Which attention kernel each layer runs and why, and how its matrices are packed; print it for a short table. */
  explain(): ModelReport {
    const { sizes, dtype, attnImplementation } = this;
    return explainModel({ sizes, dtype, attnImplementation, weights: this.#parts.weights }, this.device);
  }

  /** Whether an encoder reads the inputs, and a decoder its states. */
  get isEncoderDecoder(): boolean {
    return this.#parts.family.encoder !== undefined;
  }

  /**
   * A new cache that fits the model: a `DynamicCache` with float16 keys for 16-bit weights, else float32; of an
   * encoder-decoder the self part of an `EncoderDecoderCache`; of layers that keep states a `MambaCache`.
   */
  newCache(): Cache {
    return newCacheOf(this.#parts, this.cacheDtype);
  }

  /** What the model's own caches store keys and values in. */
  get cacheDtype(): "float32" | "float16" {
    return cacheDtypeOf(this.dtype, this.sizes.headDim);
  }

  /**
   * One forward pass over padded rows.
   *
   * @throws {ValueError} if an id is no token, or a row has no token at all
   * @throws {ShapeError} if rows and masks differ, or attention is wanted to other encoder rows than the cache holds
   * @throws {LimitError} if a sequence is longer than the model's positions allow
   *
   * @example
   * ```ts
   * import { loadModel } from "@tensaur/tensaur";
   * using model = await loadModel("models/tensaur-tiny");
   * using output = await model.forward({ inputIds: [[2043, 55, 17]] });
   * console.log(output.logits?.shape); // [1, 3, 2048]
   * ```
   */
  async forward(inputs: ModelInputs | EncoderDecoderInputs, options: ForwardOptions = {}): Promise<ModelOutput> {
    using own = options.cache ? undefined : passingCacheOf(this.#parts, this.cacheDtype);
    const cache = options.cache ?? own!;
    if (!this.isEncoderDecoder) return await forwardRows(this, this.#parts, inputs as ModelInputs, cache, options);
    const given = inputs as EncoderDecoderInputs, decoder = decoderInputs(given), cross = crossPart(cache);
    using made = new DisposableStack();
    const encoder = cross.isUpdated(0) ? undefined : made.use(await encoderOutputs(this, given, cache, options));
    const columns = options.outputAttentions ? encoderColumns(given, cross.lengths) : undefined;
    const output = made.use(await forwardRows(this, this.#parts, decoder, cache, options, columns));
    const kept = made.move(); // nothing failed: they are the caller's
    return { ...output, ...encoder, [Symbol.dispose]: () => kept.dispose() };
  }

  /**
   * Runs the encoder of an encoder-decoder, and fills `cache` with what the decoder will attend to.
   *
   * @param collect if given, gets the encoder's `hiddenStates` [B, S, D] and its `attentions` [H, T, S] of packed tokens,
   * which are the caller's too
   * @returns the encoder's last hidden state [B, S, D], the caller's; zeros at padded places
   * @throws {ValueError} if the model has no encoder, the cache no part for it, or an id is no token
   */
  encode(inputs: EncoderDecoderInputs, cache: Cache, collect: Collected = {}): Tensor {
    const { device, dtype } = this, cross = crossPart(cache);
    const implementation = implementationFor(this.config, this.#attention, collect);
    const run = () => attending(implementation, dtype, () => encodeInto(this.#parts, inputs, cross, collect));
    const made = tidy(device, () => ({ states: run(), ...collect }));
    for (const t of [made.states, ...collect.hiddenStates ?? [], ...collect.attentions ?? []]) keep(device, t);
    return made.states;
  }

  /** Hidden states [T, D] of a packed batch. For code that builds on packed batches, as generation does. */
  hidden(given: Batch, cache: Cache, collect: Collected & Pick<Pass, "headMask"> = {}): Tensor {
    const { family, config, weights } = this.#parts;
    const implementation = implementationFor(this.config, this.#attention, collect);
    return orRewind(cache, () => {
      const batch = cache.prepare?.(given, this.#rope !== undefined) ?? given;
      this.#checkLength(batch);
      return attending(implementation, this.dtype, () => {
        const table = this.#rope?.table(batch.maxPosition);
        return family.forward(config, weights, { batch, cache, table, ...collect });
      });
    });
  }

  /** Logits of the last token of each sequence of a packed batch: [B, V]. */
  nextLogits(batch: Batch, cache: Cache): Tensor {
    return orRewind(cache, () =>
      tidy(this.device, () => {
        const hidden = this.hidden(batch, cache); // [T, D]
        const single = batch.lengths.every((n) => n === 1); // each row is a last one
        return this.#head()(single ? hidden : poolRows(hidden, batch.cuSeqlens, "last"), batch); // [B, V]
      }));
  }

  /** The output layer over rows of hidden states: [N, D] to [N, V]. */
  applyHead(hidden: Tensor, batch: Batch): Tensor {
    return this.#head()(hidden, batch);
  }

  /**
   * Whether one recorded step serves every length from `from` to `to`; if so, makes what the step must find ready.
   */
  prepareReplay(from: number, to: number): boolean {
    if (!this.#rope) return to <= this.sizes.maxPositionEmbeddings;
    if (!this.#rope.stable(to, from)) return false;
    this.#rope.table(to);
    return true;
  }

  /** Disposes of `resource` with the model. */
  keepWith(resource: Disposable): void {
    this.#kept.push(resource);
  }

  /** Returns the memory. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const resource of this.#kept.splice(0)) resource[Symbol.dispose]();
    this.#rope?.dispose();
    for (const value of this.#parts.owned) value[Symbol.dispose]();
    if (this.#parts.ownsDevice) this.device.close();
  }

  /** As {@linkcode dispose}. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #head(): ApplyHead {
    const { head } = this.#parts;
    if (head) return head;
    throw new ValueError(`Cannot give logits as the model must be loaded with a head: its task is "${this.task}"`, {
      hint: 'Load a checkpoint of a language model, or pass task: "causal-lm".',
    });
  }

  #checkLength({ maxPosition }: Batch): void {
    const { maxPositionEmbeddings } = this.sizes;
    if (this.#rope || maxPosition <= maxPositionEmbeddings) return; // rotary embeddings go on; learned ones end
    throw new LimitError(
      `Cannot run the model as a sequence must have at most ${maxPositionEmbeddings} tokens: it has ${maxPosition}`,
      { hint: "Truncate the text: tokenizer(text, { truncation: true, maxLength })." },
    );
  }
}
