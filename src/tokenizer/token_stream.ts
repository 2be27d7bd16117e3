/**
 * Ids to text, as they come.
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import type { Pipeline } from "./pipeline.ts";

/** How to decode. */
export interface DecodeOptions {
  /** Leave special tokens out; default false. */
  skipSpecialTokens?: boolean;
  /**
   * Take the spaces away that stand before punctuation and contractions; default what tokenizer_config.json says, else
   * false. BPE tokenizers ignore it, as in Python: their spaces are text.
   */
  cleanUpTokenizationSpaces?: boolean;
}

/**
 * Turns ids into text while they are generated.
 *
 * It never emits half a character, and all that it emits, put together, is `decode()` of all its ids.
 *
 * @example
 * ```ts ignore
 * const stream = tokenizer.tokenStream({ skipSpecialTokens: true });
 * for (const id of ids) write(stream.put(id)); // "" while a character is unfinished
 * write(stream.end());
 * ```
 */
export interface TokenStream {
  /**
   * Takes the next id.
   *
   * @param id a token id; one that the vocabulary has no token for adds nothing
   * @returns the text that is now certain, "" if none is
   * @throws ValueError if `id` is no whole number >= 0
   */
  put(id: number): string;
  /** Ends the text: returns what was held back, an unfinished character as U+FFFD. Call it once. */
  end(): string;
}

/** The stream of a pipeline's decoder. */
export class DecoderStream implements TokenStream {
  readonly #pipeline: Pipeline;
  readonly #stage: ReturnType<Pipeline["startDecoder"]>;
  readonly #skip: boolean;
  readonly #cleanUp: boolean;
  #held = "";

  /** Starts at the beginning of a text. */
  constructor(pipeline: Pipeline, { skipSpecialTokens, cleanUpTokenizationSpaces }: DecodeOptions = {}) {
    this.#pipeline = pipeline;
    this.#stage = pipeline.startDecoder();
    this.#skip = skipSpecialTokens ?? false;
    this.#cleanUp = (cleanUpTokenizationSpaces ?? false) && !pipeline.isBpe;
  }

  /** As {@linkcode TokenStream} says. */
  put(id: number): string {
    if (!Number.isInteger(id) || id < 0) {
      throw new ValueError(`Cannot decode as ids must be whole numbers >= 0: current value is ${id}`);
    }
    const token = this.#pipeline.token(id);
    if (token === undefined || (this.#skip && this.#pipeline.added.get(id)?.special)) return "";
    let text = "";
    this.#stage.push(token, (more) => text += more);
    return this.#cleanUp ? this.#clean(text) : text;
  }

  /** As {@linkcode TokenStream} says. */
  end(): string {
    let text = "";
    this.#stage.end((more) => text += more);
    return this.#cleanUp ? cleanUpSpaces(this.#held + text) : text;
  }

  /** Cleans up to the last space that no later character can change: a rule begins with a space, "'" or " n" before. */
  #clean(text: string): string {
    this.#held += text;
    let cut = this.#held.lastIndexOf(" ");
    while (cut > 0 && "' n".includes(this.#held[cut - 1]!)) cut = this.#held.lastIndexOf(" ", cut - 1);
    if (cut <= 0) return "";
    const sure = this.#held.slice(0, cut);
    this.#held = this.#held.slice(cut);
    return cleanUpSpaces(sure);
  }
}

function cleanUpSpaces(text: string): string {
  return text.replaceAll(" .", ".").replaceAll(" ?", "?").replaceAll(" !", "!").replaceAll(" ,", ",")
    .replaceAll(" ' ", "'").replaceAll(" n't", "n't").replaceAll(" 'm", "'m").replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve").replaceAll(" 're", "'re");
}
