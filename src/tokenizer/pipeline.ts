/**
 * `@huggingface/tokenizers` with limits: text to ids and back, and the templates of special tokens.
 *
 * @module
 */
import {
  ByteFallbackDecoder,
  SequenceDecoder,
  SequenceNormalizer,
  SequencePreTokenizer,
  Tokenizer as Library,
} from "@huggingface/tokenizers";
import { LimitError, TensaurError, TokenizerError, ValueError } from "../errors.ts";
import { asInteger, type Json, MAX_ID, refuse, show } from "./checks.ts";
import { type Clock, type Pattern, TimedRegExp } from "./regex.ts";

const MAX_TEXT_CHARS = 4 * 2 ** 20;
const MAX_REGEX_MS = 2000;
const MAX_ENCODE_MS = 30_000;
// The library's Unigram runs out of stack beyond some 120,000 tokens a piece.
const MAX_PIECE_CHARS = 2 ** 16;
// Characters of a piece times those of the longest token: what Unigram may try.
const MAX_PIECE_STEPS = 2 ** 26;

/** A place of a template: a text's tokens or a special token, and its type id. */
export type Item = { text: "A" | "B"; typeId: number } | { id: number; typeId: number };

/** A tokenizer.json whose parts have been read by the rules of parts.ts and model.ts. */
export interface Checked extends Json {
  /** The model. */
  model: Json;
  /** Its added tokens. */
  added_tokens: Json[];
}

/** A tokenizer of the library, and what it lacks. */
export class Pipeline {
  /** The special tokens around one text, and around two. */
  readonly template: { single: readonly Item[]; pair: readonly Item[] };
  /** Whether the model is BPE, whose spaces Python never cleans up. */
  readonly isBpe: boolean;
  /** One more than the highest id. */
  readonly size: number;
  readonly #library: Library;
  readonly #special: ReadonlySet<number>;
  readonly #clock: Clock = { left: 0 };
  #deadline = 0;

  /** Builds the library's tokenizer of `json`, with `size` ids. */
  constructor(json: Checked, size: number) {
    this.size = size;
    this.isBpe = json.model.type === "BPE";
    this.#special = new Set(json.added_tokens.filter((token) => token.special).map((token) => token.id as number));
    this.#library = new Library(json, {});
    for (const part of [this.#library.normalizer, this.#library.pre_tokenizer, this.#library.decoder]) {
      this.#adapt(part);
    }
    this.#limitModel(json.model);
    const { normalizer, model } = this.#library;
    for (const { id, content, normalized } of normalizer ? json.added_tokens : []) {
      if (normalized) model!.vocab[id as number] = normalizer!.normalize(content as string); // as Python shows it
    }
    this.template = { single: this.#layout(["A"]), pair: this.#layout(["A", "B"]) };
  }

  /** The id of `token`, or undefined. */
  id(token: string): number | undefined {
    return this.#library.token_to_id(token);
  }

  /** The token of `id`, or undefined. */
  token(id: number): string | undefined {
    return this.#library.id_to_token(id);
  }

  /** Whether decoding may skip `id`. */
  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  /**
   * The ids of `text`, without the special tokens of the template.
   *
   * @throws LimitError if the text, or a piece of it without a border, is too long, or takes too much time
   */
  encode(text: string): number[] {
    if (typeof text !== "string") {
      throw new ValueError(`Cannot encode as the text must be a string: it is ${typeof text}`);
    }
    if (text.length > MAX_TEXT_CHARS) {
      throw new LimitError(
        `Cannot encode the text as it must have at most ${MAX_TEXT_CHARS} characters: it has ${text.length}`,
        { hint: "Split it at paragraphs and encode the parts." },
      );
    }
    // A lone surrogate has no UTF-8; it becomes U+FFFD, as TextEncoder has it.
    const { ids, tokens } = this.#guard(
      "encode",
      () => this.#library.encode(text.toWellFormed(), { add_special_tokens: false }),
    );
    const missing = ids.findIndex((id) => id === undefined || id === null);
    if (missing < 0) return ids;
    throw new TokenizerError(
      `Cannot encode ${show(tokens[missing])} as the vocabulary must have it or an unknown token`,
    );
  }

  /** The text of `ids`, each of which has a token. */
  decode(ids: number[]): string {
    if (ids.length === 0) return "";
    return this.#guard("decode", () => this.#library.decode(ids, { clean_up_tokenization_spaces: false }));
  }

  /** Runs the library against the clock; what it throws becomes an error of ours. */
  #guard<T>(verb: string, run: () => T): T {
    this.#clock.left = MAX_REGEX_MS;
    this.#deadline = performance.now() + MAX_ENCODE_MS;
    try {
      return run();
    } catch (cause) {
      if (cause instanceof TensaurError) throw cause;
      const full = cause instanceof RangeError; // stack or string too long
      throw new (full ? LimitError : TokenizerError)(
        `Cannot ${verb} as the tokenizer must ${full ? "have room for it" : "be sound"}: ${(cause as Error).message}`,
        { cause },
      );
    }
  }

  /** Puts what the library lacks into a part that it built. */
  #adapt(part: unknown): void {
    if (part instanceof SequenceNormalizer) part.normalizers.forEach((each) => this.#adapt(each));
    if (part instanceof SequencePreTokenizer) part.tokenizers.forEach((each) => this.#adapt(each));
    if (part instanceof SequenceDecoder) part.decoders.forEach((each) => this.#adapt(each));
    // Its own decoder takes a byte order mark for no text.
    if (part instanceof ByteFallbackDecoder) part.text_decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    const { pattern, config } = (part ?? {}) as { pattern?: RegExp; config?: { pattern?: Pattern } };
    if (pattern && config?.pattern?.timed) {
      (part as { pattern: RegExp }).pattern = new TimedRegExp(pattern, pattern.flags, this.#clock);
    }
  }

  /** Encodes word by word, and piece by piece where a border in a word cannot lie within a token. */
  #limitModel({ type, end_of_word_suffix }: Json): void {
    const model = this.#library.model!, encode = model.encode.bind(model);
    const whole = type === "WordPiece"; // it takes no word of more than max_input_chars_per_word
    let longest = 1, bordered = !whole && !end_of_word_suffix;
    for (const token of model.vocab) {
      longest = Math.max(longest, token?.length ?? 0);
      bordered &&= !/[^▁]▁/.test(token ?? "");
    }
    const most = whole ? Infinity : Math.min(MAX_PIECE_CHARS, Math.floor(MAX_PIECE_STEPS / longest));
    model.encode = (words) => {
      const out: string[] = [];
      for (const word of words) {
        for (const piece of bordered ? word.split(/(?<=[^▁])(?=▁)/) : [word]) {
          this.#checkPiece(piece, most);
          for (const token of encode([piece])) out.push(token);
        }
      }
      return out;
    };
  }

  #checkPiece(piece: string, most: number): void {
    if (piece.length > most) {
      throw new LimitError(
        `Cannot encode the text as a piece of it must have at most ${most} characters: one has ${piece.length}`,
        { hint: "Split it, or put spaces into it." },
      );
    }
    if (performance.now() > this.#deadline) {
      throw new LimitError(`Cannot encode the text as it must take at most ${MAX_ENCODE_MS} ms: it takes longer`, {
        hint: "Split it at paragraphs and encode the parts.",
      });
    }
  }

  /** What the post-processor puts around `texts`, read off what it makes of a mark for each. */
  #layout(texts: ("A" | "B")[]): Item[] {
    const [a, b] = texts.map((text) => [`\0${text}`]);
    const made = this.#library.post_processor?.post_process(a!, b ?? null, true) ?? { tokens: a!, tokens_pair: b };
    const items = [...made.tokens, ...made.tokens_pair ?? []].map((token, i): Item => {
      const text = texts.find((each) => token === `\0${each}`),
        typeId = asInteger(made.token_type_ids?.[i], "a type_id", 0, MAX_ID, text === "B" ? 1 : 0);
      const id = this.id(token);
      if (text !== undefined) return { text, typeId };
      return id === undefined ? refuse("post_processor", "add known tokens", token) : { id, typeId };
    });
    const order = items.flatMap((item) => "text" in item ? item.text : []);
    if (order.toSorted().join() !== texts.join()) refuse("post_processor", `hold ${texts.join(" and ")} once`, order);
    return items;
  }
}
