/**
 * Streamers: they take tokens as they come and give text.
 *
 * @module
 */
import { stdout } from "node:process";
import { TimeoutError, ValueError } from "../errors.ts";
import type { Streamer, TextCodec } from "./options.ts";

/** What streamers of text take. */
export interface TextStreamerOptions {
  /** Leave the prompt out. Default false. */
  skipPrompt?: boolean;
  /** Leave special tokens out. Default false. */
  skipSpecialTokens?: boolean;
}

/**
 * Prints text as soon as entire words are there.
 *
 * Source: Transformers' `TextStreamer`.
 *
 * @example
 * ```ts
 * import { generate, loadModel, loadTokenizer, TextStreamer } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * const streamer = new TextStreamer(tokenizer, { skipPrompt: true, skipSpecialTokens: true });
 * await generate(model, tokenizer("The cat"), { maxNewTokens: 10, streamer });
 * ```
 */
export class TextStreamer implements Streamer {
  readonly #tokenizer: TextCodec;
  readonly #o: TextStreamerOptions;
  #ids: number[] = [];
  #shown = 0;
  #first = true;

  /** A streamer of what `tokenizer` decodes. */
  constructor(tokenizer: TextCodec, options: TextStreamerOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#o = options;
  }

  /**
   * Takes the prompt first, then the tokens of each step.
   *
   * @throws {ValueError} if there is more than one row
   */
  put(rows: readonly (readonly number[])[]): void {
    if (rows.length > 1) throw new ValueError("TextStreamer only supports batch size 1");
    const isPrompt = this.#first;
    this.#first = false;
    if (isPrompt && this.#o.skipPrompt) return;
    this.#ids.push(...rows[0] ?? []);
    const text = this.#text(); // Chinese has no spaces between its words
    const whole = text.endsWith("\n") || /\p{Script=Han}$/u.test(text);
    const ready = whole ? text.length : text.lastIndexOf(" ") + 1;
    const fresh = text.slice(this.#shown, Math.max(this.#shown, ready));
    this.#shown = Math.max(this.#shown, ready);
    if (text.endsWith("\n")) [this.#ids, this.#shown] = [[], 0];
    this.onFinalizedText(fresh, false);
  }

  /** Gives what is left. */
  end(): void {
    const rest = this.#text().slice(this.#shown);
    [this.#ids, this.#shown, this.#first] = [[], 0, true];
    this.onFinalizedText(rest, true);
  }

  /** Prints `text`; after the last one, a new line. */
  onFinalizedText(text: string, streamEnd: boolean): void {
    stdout.write(streamEnd ? `${text}\n` : text);
  }

  #text(): string {
    return this.#ids.length ? this.#tokenizer.decode(this.#ids, { skipSpecialTokens: this.#o.skipSpecialTokens }) : "";
  }
}

/**
 * Gives text to a loop as soon as entire words are there.
 *
 * Source: Transformers' `AsyncTextIteratorStreamer`.
 *
 * @example
 * ```ts
 * import { generate, loadModel, loadTokenizer, TextIteratorStreamer } from "@tensaur/tensaur";
 * using model = await loadModel("models/tensaur-tiny");
 * const tokenizer = await loadTokenizer("models/tensaur-tiny");
 * const streamer = new TextIteratorStreamer(tokenizer);
 * const run = generate(model, tokenizer("The cat"), { maxNewTokens: 10, streamer });
 * let text = "";
 * for await (const piece of streamer) text += piece;
 * await run;
 * ```
 */
export class TextIteratorStreamer extends TextStreamer implements AsyncIterable<string> {
  readonly #timeout: number | undefined;
  readonly #queue: string[] = [];
  #ended = false;
  #wake = () => {};

  /** A streamer of what `tokenizer` decodes; the loop waits `timeout` milliseconds for the next text, or for ever. */
  constructor(tokenizer: TextCodec, { timeout, ...options }: TextStreamerOptions & { timeout?: number } = {}) {
    super(tokenizer, options);
    this.#timeout = timeout;
  }

  /** Keeps `text` for the loop. */
  override onFinalizedText(text: string, streamEnd: boolean): void {
    if (text) this.#queue.push(text);
    this.#ended ||= streamEnd;
    this.#wake();
  }

  /**
   * The texts, until the run ends.
   *
   * @throws {TimeoutError} if the next one takes longer than `timeout`
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    for (;;) {
      const text = this.#queue.shift();
      if (text !== undefined) yield text;
      else if (this.#ended) break;
      else await this.#next();
    }
    this.#ended = false;
  }

  #next(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#wake = resolve;
    if (this.#timeout === undefined) return promise;
    const late = () =>
      reject(new TimeoutError(`Cannot go on as text must come within ${this.#timeout} ms: none has come`));
    const timer = setTimeout(late, this.#timeout);
    return promise.finally(() => clearTimeout(timer));
  }
}
