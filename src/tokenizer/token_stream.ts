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

/** Whether decoding shows `id`: the vocabulary has a token for it, and it is not skipped. */
export function isShown(pipeline: Pipeline, id: number, skipSpecialTokens = false): boolean {
  if (!Number.isInteger(id) || id < 0) {
    throw new ValueError(`Cannot decode as ids must be whole numbers >= 0: current value is ${id}`);
  }
  return pipeline.token(id) !== undefined && !(skipSpecialTokens && pipeline.isSpecial(id));
}

// Ids that hold more bytes than an unfinished character has.
const TAIL = 8;

/**
 * A stream over the library's decoder, which knows whole lists of ids only.
 *
 * It decodes a window: the last ids whose text is out, so that no id but the first of the text is treated as the first,
 * and those since then.
 */
export class DecoderStream implements TokenStream {
  readonly #pipeline: Pipeline;
  readonly #skip: boolean;
  readonly #cleanUp: boolean;
  #window: number[] = [];
  #settled = 0; // ids of the window that no later one can change
  #out = 0; // characters of the window's text that are out
  #held = ""; // text that the clean-up may still change

  /** Starts at the beginning of a text. */
  constructor(pipeline: Pipeline, { skipSpecialTokens, cleanUpTokenizationSpaces }: DecodeOptions = {}) {
    this.#pipeline = pipeline;
    this.#skip = skipSpecialTokens ?? false;
    this.#cleanUp = (cleanUpTokenizationSpaces ?? false) && !pipeline.isBpe;
  }

  put(id: number): string {
    if (!isShown(this.#pipeline, id, this.#skip)) return "";
    this.#window.push(id);
    const text = this.#pipeline.decode(this.#window);
    const half = text.endsWith("\ufffd"); // its last character may be unfinished
    const sure = text.slice(this.#out, half ? -1 : undefined);
    this.#out += sure.length;
    this.#shorten(half);
    return this.#cleanUp ? this.#clean(sure) : sure;
  }

  end(): string {
    const rest = this.#pipeline.decode(this.#window).slice(this.#out);
    return this.#cleanUp ? cleanUpSpaces(this.#held + rest) : rest;
  }

  /** Shortens the window to the newest ids that settle a text, or to its last ones. */
  #shorten(half: boolean): void {
    if (!half && this.#begin(this.#window.slice(this.#settled), 0)) return;
    if (this.#window.length > 2 * TAIL) this.#begin(this.#window.slice(-TAIL), half ? 1 : 0);
    if (!half) this.#settled = this.#window.length;
  }

  /** Makes `ids`, whose last `unsure` characters are not out, the window; not where the decoder would show nothing. */
  #begin(ids: number[], unsure: number): boolean {
    const { length } = this.#pipeline.decode(ids);
    if (length <= unsure) return false;
    this.#window = ids;
    this.#settled = unsure > 0 ? 0 : ids.length;
    this.#out = length - unsure;
    return true;
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

/** `text` without the spaces that stand before punctuation and contractions. */
export function cleanUpSpaces(text: string): string {
  return text.replaceAll(" .", ".").replaceAll(" ?", "?").replaceAll(" !", "!").replaceAll(" ,", ",")
    .replaceAll(" ' ", "'").replaceAll(" n't", "n't").replaceAll(" 'm", "'m").replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve").replaceAll(" 're", "'re");
}
