/**
 * Threads that compile and match grammars: a grammar from outside cannot hang or fill this one. A thread that is given
 * back keeps what it compiled for the next call.
 *
 * @module
 */
import { Worker } from "node:worker_threads";
import { LimitError, NotSupportedError, throwIfAborted, ValueError } from "../../errors.ts";
import { type GrammarText, type GrammarVocabulary, grammarWorkerSource, type WorkerMessage } from "./grammar_worker.ts";
import { Utf8Guard } from "./utf8_guard.ts";

const START_MS = 20_000, COMPILE_MS = 10_000, MASK_MS = 5_000;
const HEAP_MB = 512;
const MOST_IDLE = 4; // threads that wait for their next call

/** How {@linkcode GrammarThread.compile} compiles. */
export interface CompileLimits {
  /** Ends the compilation. */
  signal?: AbortSignal;
  /** Most milliseconds that it may take. */
  milliseconds?: number;
}

const idle: GrammarThread[] = [];

/** A thread and the grammar that it matches at present. */
export class GrammarThread {
  /** How many threads were started, and how many grammars compiled, in all. */
  static readonly counters = { started: 0, compiled: 0 };
  /** What characters its tokens may make. */
  readonly utf8: Utf8Guard;
  /** Bit i of word w tells whether token 32 w + i may follow, after {@linkcode GrammarThread.ask} gave 1. */
  readonly mask: Int32Array;
  readonly #vocabulary: GrammarVocabulary;
  readonly #worker: Worker;
  readonly #state: Int32Array = new Int32Array(new SharedArrayBuffer(8));
  #grammar: GrammarText | undefined;

  private constructor(vocabulary: GrammarVocabulary) {
    this.#vocabulary = vocabulary;
    this.utf8 = new Utf8Guard(vocabulary);
    this.mask = new Int32Array(new SharedArrayBuffer(4 * Math.ceil(vocabulary.vocab.length / 32)));
    this.#worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(grammarWorkerSource())}`), {
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
    });
    this.#worker.unref(); // a thread that waits shall not keep the process
    this.#worker.on("error", () => {
      const at = idle.indexOf(this);
      if (at !== -1) idle.splice(at, 1);
    });
  }

  /**
   * A thread that has compiled `grammar`, one that waits where there is one.
   *
   * @throws {ValueError} if the grammar has a mistake
   * @throws {NotSupportedError} if a part of it would not be enforced
   * @throws {LimitError} if it takes too long
   * @throws {AbortError} if `signal` fires
   */
  static async compile(
    vocabulary: GrammarVocabulary,
    grammar: GrammarText,
    limits: CompileLimits = {},
  ): Promise<GrammarThread> {
    throwIfAborted(limits.signal, `compiling ${grammar.kind}`);
    const thread = takeIdle(vocabulary, grammar) ?? await GrammarThread.#start(vocabulary, limits.signal);
    await thread.#compile(grammar, limits);
    return thread;
  }

  static async #start(vocabulary: GrammarVocabulary, signal?: AbortSignal): Promise<GrammarThread> {
    const thread = new GrammarThread(vocabulary);
    GrammarThread.counters.started++;
    await thread.#told("start the thread that matches grammars", START_MS, signal);
    const { vocab, vocabType, stopTokenIds } = vocabulary;
    thread.#worker.postMessage({ vocab, vocabType, stopTokenIds, state: thread.#state, mask: thread.mask });
    return thread;
  }

  /** Whether it matches this grammar at present, and writes in this vocabulary. */
  serves(vocabulary: GrammarVocabulary, grammar?: GrammarText): boolean {
    const { vocab, stopTokenIds } = this.#vocabulary;
    if (vocab !== vocabulary.vocab || stopTokenIds.join() !== vocabulary.stopTokenIds.join()) return false;
    return !grammar || grammar.kind === this.#grammar?.kind && grammar.text === this.#grammar.text;
  }

  /** Which tokens may follow: 1 those of the mask, 2 none, as `tokens` do not match; 3 something went wrong. */
  ask(row: number, tokens: readonly number[]): number {
    const before = Atomics.load(this.#state, 0);
    this.#worker.postMessage({ row, tokens });
    if (Atomics.wait(this.#state, 0, before, MASK_MS) !== "timed-out") return Atomics.load(this.#state, 1);
    throw new LimitError(
      `Cannot go on with generating as ${this.#grammar?.kind} must be matched within ${MASK_MS} ms a token`,
    );
  }

  /** Gives the thread back: it waits for the next grammar in its vocabulary. */
  release(): void {
    idle.push(this);
    if (idle.length > MOST_IDLE) idle.shift()!.end();
  }

  /** Ends the thread. */
  end(): void {
    void this.#worker.terminate();
  }

  async #compile(grammar: GrammarText, { signal, milliseconds = COMPILE_MS }: CompileLimits): Promise<void> {
    const { kind, text } = this.#grammar = grammar;
    this.#worker.postMessage({ kind, text });
    const answer = await this.#told(`compile ${kind}`, milliseconds, signal);
    if (answer === "compiled") GrammarThread.counters.compiled++;
    if (typeof answer === "string") return;
    this.#grammar = undefined;
    this.release();
    if ("notEnforced" in answer) {
      throw new NotSupportedError(`Cannot generate as ${kind} must be one that can be enforced: ${answer.notEnforced}`);
    }
    throw new ValueError(`Cannot generate as ${kind} must be one that can be compiled: ${answer.error}`);
  }

  /** The next message; a thread that is late, fails or is not wanted any more is ended. */
  async #told(doing: string, milliseconds: number, signal?: AbortSignal): Promise<WorkerMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<WorkerMessage>();
    const timer = setTimeout(() => {
      reject(new LimitError(`Cannot ${doing} as it must take at most ${milliseconds} ms: it takes longer`));
    }, milliseconds);
    const failed = (cause: Error) => {
      reject(new LimitError(`Cannot ${doing} as its thread failed: ${cause.message}`, { cause }));
    };
    const aborted = () => reject(signal!.reason);
    this.#worker.once("message", resolve);
    this.#worker.once("error", failed);
    signal?.addEventListener("abort", aborted);
    try {
      return await promise;
    } catch (error) {
      this.end();
      throwIfAborted(signal, doing);
      throw error;
    } finally {
      clearTimeout(timer);
      this.#worker.off("message", resolve);
      this.#worker.off("error", failed);
      signal?.removeEventListener("abort", aborted);
    }
  }
}

/** A waiting thread of the vocabulary, one that knows the grammar before others. */
function takeIdle(vocabulary: GrammarVocabulary, grammar: GrammarText): GrammarThread | undefined {
  const best = idle.find((thread) => thread.serves(vocabulary, grammar)) ??
    idle.find((thread) => thread.serves(vocabulary));
  return best && idle.splice(idle.indexOf(best), 1)[0];
}
