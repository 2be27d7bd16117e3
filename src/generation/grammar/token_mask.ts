/**
 * Which tokens a grammar lets follow.
 *
 * @module
 */
import { ValueError } from "../../errors.ts";
import { type CompileLimits, GrammarThread } from "./grammar_thread.ts";
import type { GrammarText, GrammarVocabulary } from "./grammar_worker.ts";

/** A compiled grammar. */
export class TokenMask implements Disposable {
  readonly #thread: GrammarThread;
  readonly #kind: string;
  #failed = false;

  private constructor(thread: GrammarThread, kind: string) {
    this.#thread = thread;
    this.#kind = kind;
  }

  /**
   * Compiles a grammar in a thread of its own, or takes one that has compiled it before.
   *
   * @throws {ValueError} if the grammar has a mistake
   * @throws {NotSupportedError} if a part of it would not be enforced
   * @throws {LimitError} if it takes too long
   * @throws {AbortError} if `signal` fires
   */
  static async compile(
    { kind, text, ...vocabulary }: GrammarText & GrammarVocabulary,
    limits: CompileLimits = {},
  ): Promise<TokenMask> {
    return new TokenMask(await GrammarThread.compile(vocabulary, { kind, text }, limits), kind);
  }

  /**
   * Forbids what may not follow `tokens`, in place; waits for the thread, most often less than a millisecond.
   *
   * @param row where the tokens come from: consecutive questions of one row are answered faster
   * @param tokens what was generated so far
   * @throws {ValueError} if matching fails; what does not match forbids all tokens
   * @throws {LimitError} if the answer takes too long
   */
  apply(row: number, tokens: readonly number[], scores: Float32Array): void {
    this.#failed = true; // unless an answer comes
    const answer = this.#thread.ask(row, tokens), { mask, utf8 } = this.#thread;
    if (answer === 3) {
      throw new ValueError(`Cannot go on with generating as ${this.#kind} must be matched without an error: one came`);
    }
    this.#failed = false;
    if (answer === 2) return void scores.fill(-Infinity); // a beam that has no chance any more
    for (let id = 0; id < scores.length; id++) {
      if (!(mask[id >> 5]! >>> (id & 31) & 1)) scores[id] = -Infinity;
    }
    if (tokens.length) utf8.apply(tokens.at(-1)!, scores);
  }

  /** Gives the thread back. */
  [Symbol.dispose](): void {
    if (this.#failed) this.#thread.end();
    else this.#thread.release();
  }
}
