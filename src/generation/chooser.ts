/**
 * From logits to the next token of each row, on the GPU: processors, warpers, the draw.
 *
 * @module
 */
import type { Device } from "../gpu/mod.ts";
import { argmax, sampleLogits, samplingParams, type SamplingSettings, warpLogits } from "../ops/mod.ts";
import { type Tensor, tensor, tidy } from "../tensor/mod.ts";
import type { ResolvedOptions } from "./options.ts";
import { RunState } from "./processors/gpu_state.ts";
import { entropyWarpersOf, type HostProcessor, processorsOf } from "./processors/mod.ts";
import { NEG, type Processor, type ProcessorContext } from "./processors/processor.ts";

type OnGpu = (scores: Tensor) => Tensor;

/** The processors and the choice of one generation, composed in the documented order (semantics: G-25). */
export class Chooser implements Disposable {
  /** Whether a processor is the caller's code, so that each step waits for the host. */
  readonly needsHost: boolean;
  readonly #host: HostProcessor;
  readonly #processors: readonly OnGpu[];
  readonly #warpers: readonly OnGpu[];
  readonly #choose: OnGpu;
  readonly #state: RunState;
  readonly #owned: DisposableStack = new DisposableStack();

  /**
   * @param context ids of the prompts
   * @param step [1] uint32: steps so far
   * @param unconditional logits after the negative prompts, in the present step
   */
  constructor(
    device: Device,
    o: ResolvedOptions,
    context: ProcessorContext,
    step: Tensor,
    unconditional: () => Tensor,
  ) {
    const state = this.#state = this.#owned.use(
      new RunState(device, context.prompts, context.vocabSize, o.newTokens, step, unconditional),
    );
    const processors = processorsOf(o, context);
    this.needsHost = processors.some(({ gpu }) => !gpu);
    this.#host = (ids, scores, now) => processors.forEach(({ host }) => host(ids, scores, now));
    const onGpu = (each: readonly Processor[]) => each.flatMap(({ gpu }) => gpu?.(state) ?? []);
    this.#processors = this.needsHost ? [] : onGpu(processors);

    const { temperature, topK, topP, seed } = o, minP = o.minP ?? 0;
    const params = (settings: SamplingSettings) => this.#owned.use(samplingParams(device, settings));
    const warp = (settings: SamplingSettings): OnGpu => {
      const by = params(settings);
      return (scores) => warpLogits(scores, by);
    };
    const entropy = entropyWarpersOf(o, context);
    const separate = o.doSample && (o.outputScores || entropy.some(({ name }) => name !== "renormalizeLogits"));
    this.#warpers = !separate ? o.outputScores ? onGpu(entropy) : [] : [
      ...o.topH === null ? [] : [warp({ temperature }), ...onGpu(entropy.filter(({ name }) => name === "topH"))],
      warp({ temperature: o.topH === null ? temperature : 1, topK, topP, minP }),
      ...onGpu(entropy.filter(({ name }) => name !== "topH")),
    ];
    const draw = o.doSample && params(separate ? { seed } : { temperature, topK, topP, minP, seed });
    this.#choose = draw ? (scores) => sampleLogits(scores, draw, step) : argmax;
  }

  /** Scores [B, V] that tokens are chosen from: after the processors, and after the warpers that are not in the draw. */
  process(logits: Tensor): Tensor {
    return through([...this.#processors, ...this.#warpers], logits);
  }

  /**
   * The same, with the processors in their plain form on the host.
   *
   * @param ids of each row so far
   * @param unconditional logits after the negative prompts, if they guide
   */
  async processOnHost(logits: Tensor, ids: readonly number[][], unconditional?: Tensor): Promise<Tensor> {
    const all = await logits.read() as Float32Array<ArrayBuffer>;
    this.#host(ids, all, { unconditional: await unconditional?.read() as Float32Array | undefined });
    const scores = tensor(logits.device, all.map((x) => x === -Infinity ? NEG : x), logits.shape);
    if (this.#warpers.length === 0) return scores;
    using processed = scores;
    return through(this.#warpers, processed);
  }

  /** A token of each row: [B] uint32. */
  choose(scores: Tensor): Tensor {
    return this.#choose(scores);
  }

  /** Counts tokens that were chosen, for the processors that look back. */
  count(tokens: Tensor, cuSeqlens: Tensor): void {
    this.#state.took(tokens, cuSeqlens);
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}

function through(stages: readonly OnGpu[], logits: Tensor): Tensor {
  return tidy(logits.device, () => stages.reduce((scores, process) => process(scores), logits));
}
