/**
 * A tokenizer.json as functions: text to ids, tokens to text, and the templates of special tokens.
 *
 * @module
 */
import { LimitError, TokenizerError, ValueError } from "../errors.ts";
import { type AddedToken, AddedTokenSplitter, makeAddedToken, parseAddedTokens } from "./added_tokens.ts";
import { Budget } from "./budget.ts";
import { asObject, type Json, MAX_ID, MAX_TEXT_CHARS } from "./checks.ts";
import { createDecoder, type Stage } from "./decoders.ts";
import { createModel, type Model } from "./models.ts";
import { createNormalizer, type Normalizer } from "./normalizers.ts";
import { createTemplate, type Item, type Template } from "./post_processor.ts";
import { createPreTokenizer, type PreTokenizer } from "./pre_tokenizers.ts";
import type { Vocabulary } from "./vocabulary.ts";

/** What a tokenizer.json says, checked and ready to run. */
export class Pipeline {
  /** Added tokens by id. */
  readonly added: Map<number, AddedToken> = new Map();
  /** The special tokens around a text or a pair. */
  template: Template;
  /** Whether the model is BPE, whose spaces Python never cleans up. */
  readonly isBpe: boolean;
  readonly #normalize: Normalizer;
  readonly #preTokenize: PreTokenizer;
  readonly #model: Model;
  readonly #vocabulary: Vocabulary; // the model's own, which the added tokens never join: no merge may make one
  readonly #addedIds = new Map<string, number>();
  readonly #startDecoder: () => Stage;
  #splitters: { raw: AddedTokenSplitter; normalized: AddedTokenSplitter } | undefined;

  /**
   * Builds the parts; the small ones first, so that an unknown type is refused before the vocabulary is read.
   *
   * @param json a tokenizer.json
   * @param trust whether to run its regular expressions without checks
   */
  constructor(json: Json, trust: boolean) {
    this.#normalize = createNormalizer(json.normalizer, trust);
    this.#preTokenize = createPreTokenizer(json.pre_tokenizer, trust);
    this.#startDecoder = createDecoder(json.decoder, trust);
    this.template = createTemplate(json.post_processor);
    const model = asObject(json.model, "model");
    const added = parseAddedTokens(json.added_tokens);
    this.#model = createModel(model);
    this.isBpe = model.type === "BPE" || model.merges !== undefined;
    this.#vocabulary = this.#model.vocabulary;
    this.addTokens(added);
    this.#checkTemplate();
  }

  /** One more than the highest id. */
  get size(): number {
    return [...this.added.keys()].reduce((size, id) => Math.max(size, id + 1), this.#vocabulary.size);
  }

  /** The id of `token`, or undefined. */
  id(token: string): number | undefined {
    return this.#addedIds.get(token) ?? this.#vocabulary.id(token);
  }

  /** The token of `id`, or undefined; an added token that is searched in normalized text is shown as it is found. */
  token(id: number): string | undefined {
    const added = this.added.get(id);
    if (!added) return this.#vocabulary.token(id);
    return added.normalized ? this.#normalize(added.content, new Budget()) : added.content;
  }

  /** Adds tokens; one whose text is added already keeps what it was. */
  addTokens(tokens: Iterable<AddedToken>): void {
    for (const token of tokens) {
      if (this.#addedIds.has(token.content)) continue;
      this.added.set(token.id, token);
      this.#addedIds.set(token.content, token.id);
    }
    this.#splitters = undefined;
  }

  /** Adds the token `value` (its text, or its object in a file) unless it is added already; returns its id. */
  addToken(value: unknown, path: string, special?: boolean): number {
    const token = makeAddedToken(value, 0, path);
    const id = this.id(token.content) ?? this.size;
    if (id > MAX_ID) {
      throw new TokenizerError(`Cannot add ${token.content} as ids must be at most ${MAX_ID}: it would be ${id}`);
    }
    if (!this.#addedIds.has(token.content)) this.addTokens([{ ...token, id, special: special ?? token.special }]);
    return id;
  }

  /** The ids of `text`, without the special tokens of the template. */
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
    const budget = new Budget();
    const ids: number[] = [];
    // A lone surrogate has no UTF-8; it becomes U+FFFD, as TextEncoder has it.
    this.#split().raw.split(text.toWellFormed(), budget).forEach((section, i) => {
      if (typeof section === "number") ids.push(section);
      else this.#encodeSection(section, i === 0, ids, budget);
    });
    return ids;
  }

  #encodeSection(text: string, first: boolean, ids: number[], budget: Budget): void {
    const normalized = this.#normalize(text, budget);
    budget.checkLength(normalized.length);
    this.#split().normalized.split(normalized, budget).forEach((section, i) => {
      if (typeof section === "number") return void ids.push(section);
      for (const word of this.#preTokenize(section, first && i === 0, budget)) {
        if (word !== "") this.#model.encode(word, ids, budget);
      }
    });
  }

  #split(): { raw: AddedTokenSplitter; normalized: AddedTokenSplitter } {
    if (this.#splitters) return this.#splitters;
    const all = [...this.added.values()], budget = new Budget();
    return this.#splitters = {
      raw: new AddedTokenSplitter(all.filter((token) => !token.normalized)),
      normalized: new AddedTokenSplitter(
        all.filter((token) => token.normalized),
        (content) => this.#normalize(content, budget),
      ),
    };
  }

  /** A new run of the decoder. */
  startDecoder(): Stage {
    return this.#startDecoder();
  }

  /** Every id of the template must be a token: an id outside the vocabulary would index past the embeddings. */
  #checkTemplate(): void {
    const ids = (items: readonly Item[]) => items.flatMap((item) => "ids" in item ? item.ids : []);
    for (const id of [...ids(this.template.single), ...ids(this.template.pair)]) {
      if (this.token(id) === undefined) {
        throw new TokenizerError(
          `Cannot load the tokenizer as its post_processor must add known tokens: ${id} is none`,
        );
      }
    }
  }
}
