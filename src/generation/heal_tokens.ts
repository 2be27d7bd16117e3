/**
 * Token healing: a prompt may end within a word, where its last token is one that no text would go on from.
 *
 * @module
 */
import type { ModelInputs } from "../cache/mod.ts";
import { NotSupportedError, ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import type { ResolvedOptions } from "./options.ts";
import { bosOf, realTokens } from "./rows.ts";
import { GpuStepModel } from "./strategies/gpu_step_model.ts";
import { argmax } from "./strategies/math.ts";
import { isVocabulary, tokensOf } from "./vocabulary.ts";

const OWN = 1; // added to the logit of the token that was there: "http" should not too readily become "https"
const BYTE = /^<0x[0-9A-F]{2}>$/;

/**
 * `inputs` with the last token of each row chosen anew among those whose text begins with its own. A row of one token is
 * chosen after the token that begins sequences; rows that end with a special token stay as they are.
 *
 * Source: Transformers' `heal_tokens` (semantics: G-76). It differs in three points: there the prompt is decoded, stripped
 * and encoded anew, and the token that begins sequences is made padding, so that the choice does not see it and the output
 * lacks it; here the prompt's ids stay, and what heals is what goes on. There the tokens that begin alike get 10 more than
 * the others; here no other token can be chosen.
 *
 * @throws {ValueError} without a tokenizer whose tokens can be looked at
 * @throws {NotSupportedError} if the model has an encoder
 */
export async function healTokens(model: Model, inputs: ModelInputs, o: ResolvedOptions): Promise<ModelInputs> {
  const { tokenizer } = o, { vocabSize } = model.sizes;
  if (!isVocabulary(tokenizer)) {
    throw new ValueError(
      "When generating with token healing, you must pass the model's tokenizer to the `tokenizer` argument of `generate`.",
      { hint: "Pass what loadTokenizer gives." },
    );
  }
  if (model.isEncoderDecoder) {
    throw new NotSupportedError("Cannot heal the prompt as the model must have no encoder: it has one", {
      hint: "Leave tokenHealing out.",
    });
  }
  const tokens = tokensOf(tokenizer, vocabSize), start = bosOf(model, o);
  const broken = realTokens(inputs, vocabSize).flatMap((row, b) => {
    const tail = row.at(-1)!, choices = extensions(tokens, tail);
    const before = row.length > 1 ? row.slice(0, -1) : start === undefined ? [] : [start];
    return choices.length > 1 && before.length ? [{ b, tail, choices, before }] : [];
  });
  if (broken.length === 0) return inputs;
  const logits = await logitsAfter(model, broken.map(({ before }) => before), o);
  const healed = inputs.inputIds.map((row) => [...row]);
  broken.forEach(({ b, tail, choices }, i) => {
    const scores = choices.map((id) => logits[i]![id]! + (id === tail ? OWN : 0));
    healed[b]![lastReal(inputs, b)] = choices[argmax(scores)]!;
  });
  return { ...inputs, inputIds: healed };
}

/** Tokens whose text begins with that of `tail`, itself among them. */
function extensions(tokens: readonly string[], tail: number): number[] {
  const text = tokens[tail]!;
  if (text === "" || BYTE.test(text)) return [];
  return [...tokens.keys()].filter((id) => tokens[id]!.startsWith(text) && !BYTE.test(tokens[id]!));
}

/** Where the last token of row `b` stands that is no padding. */
function lastReal({ inputIds, attentionMask }: ModelInputs, b: number): number {
  return attentionMask ? attentionMask[b]!.findLastIndex(Boolean) : inputIds[b]!.length - 1;
}

async function logitsAfter(
  model: Model,
  rows: readonly (readonly number[])[],
  { prefillChunkSize, signal }: ResolvedOptions,
): Promise<Float32Array[]> {
  using cache = model.newCache();
  using step = new GpuStepModel(model, cache, { prefillChunkSize, signal });
  try {
    return (await step.forward(rows)).logits;
  } finally {
    await model.device.stream.settled();
  }
}
