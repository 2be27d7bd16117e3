/**
 * Prompts that come as embeddings: each is given an id past the vocabulary, which only the model's first layer reads, so
 * that all else goes by ids as ever.
 *
 * @module
 */
import type { Batch } from "../cache/mod.ts";
import { NotSupportedError, ShapeError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import { gatherRows } from "../ops/mod.ts";
import { keep, Tensor, tensor } from "../tensor/mod.ts";
import { warnOnce } from "../warn.ts";
import type { GenerationOptions, ResolvedOptions } from "./options.ts";

/** A decoder's prompts as embeddings; the sequences that come of them hold new tokens only, behind `inputIds` if given. */
export interface EmbeddedInputs {
  /** [B, S, D] float32: what the model's embedding would give of the prompts. Stays the caller's. */
  inputsEmbeds: Tensor;
  /** 1 = a real one, 0 = padding: [B, S]. Default: all real. */
  attentionMask?: readonly (readonly number[])[];
  /** Ids that the embeddings stand for, if any: what processors look back at, and what sequences begin with. */
  inputIds?: readonly (readonly number[])[];
}

/** The embeddings of a run's prompts. */
export class PromptEmbeds {
  readonly #embeds: Tensor; // [B, S, E]
  readonly #width: number;
  readonly #vocabSize: number;
  readonly #ids: readonly (readonly number[])[];

  /**
   * @throws {ShapeError} if embeddings, mask and ids do not fit each other
   */
  constructor({ inputsEmbeds, attentionMask, inputIds }: EmbeddedInputs, vocabSize: number) {
    const [B = 0, S = 0] = inputsEmbeds.shape;
    const fits = (rows: readonly (readonly number[])[] | undefined) => !rows || rows.length === B;
    if (inputsEmbeds.shape.length !== 3 || !fits(inputIds)) {
      throw new ShapeError(
        `Cannot generate as inputsEmbeds must be [rows, tokens, size], with a row of inputIds each if any: current shape ` +
          `is [${inputsEmbeds.shape}]${inputIds ? ` for ${inputIds.length} rows of ids` : ""}`,
      );
    }
    if (!fits(attentionMask) || attentionMask?.some((row) => row.length !== S)) {
      throw new ShapeError(`Cannot generate as attentionMask must have the shape of inputsEmbeds, [${B}, ${S}]`);
    }
    this.#embeds = inputsEmbeds;
    this.#width = S;
    this.#vocabSize = vocabSize;
    this.#ids = inputIds ?? Array.from({ length: B }, () => []);
  }

  /** A row of ids for each row of embeddings, padding included. */
  get rows(): number[][] {
    const S = this.#width;
    return this.#ids.map((_, b) => Array.from({ length: S }, (_, i) => this.#vocabSize + b * S + i));
  }

  /** What sequences begin with. */
  get given(): readonly (readonly number[])[] {
    return this.#ids;
  }

  /** A sequence as processors and criteria see it: the ids that were given, and new tokens. */
  seen(ids: readonly number[]): readonly number[] {
    if (!this.has(ids)) return ids;
    const row = Math.floor((ids[0]! - this.#vocabSize) / this.#width);
    return [...this.#ids[row]!, ...ids.filter((id) => id < this.#vocabSize)];
  }

  /** Whether any of these is an embedding. */
  has(ids: readonly number[]): boolean {
    return ids.some((id) => id >= this.#vocabSize);
  }

  /** `batch`, whose tokens are `ids`, with the embeddings among them. */
  into(batch: Batch, ids: readonly number[]): Batch {
    if (!this.has(ids)) return batch;
    const { device, shape: [B = 0, S = 0, E = 0] } = this.#embeds, none = B * S; // past the last row: zeros
    using rows = this.#embeds.reshape([B * S, E]);
    using places = tensor(
      device,
      ids.map((id) => id < this.#vocabSize ? none : id - this.#vocabSize),
      [ids.length],
      "uint32",
    );
    const embeds = keep(device, gatherRows(rows, places));
    return {
      ...batch,
      embeds,
      [Symbol.dispose]() {
        embeds.dispose();
        batch[Symbol.dispose]();
      },
    };
  }
}

/** Whether a decoder's prompts came as embeddings. */
export function isEmbedded(model: Model, inputs: object | undefined): inputs is EmbeddedInputs {
  return !model.isEncoderDecoder && inputs !== undefined && "inputsEmbeds" in inputs &&
    inputs.inputsEmbeds !== undefined;
}

/**
 * Refuses what embeddings cannot do.
 *
 * @throws {NotSupportedError} naming the option
 */
export function checkEmbedded({ tokenHealing, assistantModel }: GenerationOptions): void {
  const [name] = Object.entries({ tokenHealing, assistantModel }).find(([, value]) => value) ?? [];
  if (!name) return;
  throw new NotSupportedError(
    `Cannot generate as with inputsEmbeds ${name} must be left out: it needs the prompt's ids`,
  );
}

/** Lengths as processors see them, which see no embeddings. */
export function seenLengths(o: ResolvedOptions, longest: number): Pick<ResolvedOptions, "maxLength" | "minLength"> {
  const { maxLength, minLength, embeds } = o;
  const unseen = longest - Math.max(...embeds!.given.map((row) => row.length));
  return { maxLength: maxLength - unseen, minLength: Math.max(0, minLength - unseen) };
}

/** `inputs`, their tensors on the model's device: copied there with a warning if they were not, and disposed of with this. */
export async function onDevice<I extends object | undefined>(
  model: Model,
  inputs: I,
): Promise<Disposable & { inputs: I }> {
  using made = new DisposableStack();
  const copies: Record<string, Tensor> = {};
  for (const [name, value] of Object.entries(inputs ?? {})) {
    if (!(value instanceof Tensor) || value.device === model.device) continue;
    const [there, here] = [value.device, model.device].map(({ provider, info }) => `${info.description} (${provider})`);
    warnOnce(
      "UserWarning",
      `You are calling .generate() with the \`${name}\` being on a device different than your model's device. ` +
        `\`${name}\` is on ${there}, whereas the model is on ${here}. You may experience unexpected behaviors or slower ` +
        `generation. Please make sure that you have put \`${name}\` to the correct device before running \`.generate()\`.`,
    );
    copies[name] = made.use(keep(model.device, tensor(model.device, await value.read(), value.shape, value.dtype)));
  }
  const owned = made.move();
  return { inputs: inputs && { ...inputs, ...copies }, [Symbol.dispose]: () => owned.dispose() };
}
