/**
 * Which tokens a grammar lets follow, asked of a worker: a schema from outside cannot hang or fill this thread.
 *
 * @module
 */
import { Worker } from "node:worker_threads";
import { LimitError, throwIfAborted, ValueError } from "../../errors.ts";
import { type CompileRequest, grammarWorkerSource } from "./grammar_worker.ts";
import { Utf8Guard } from "./utf8_guard.ts";

const START_MS = 20_000, COMPILE_MS = 10_000, MASK_MS = 5_000;
const HEAP_MB = 512;

/** What {@linkcode TokenMask.compile} needs beside the grammar. */
export interface TokenMaskOptions {
  /** Ends the compilation. */
  signal?: AbortSignal;
  /** Most milliseconds that it may take. */
  milliseconds?: number;
}

/** A compiled grammar. */
export class TokenMask implements Disposable {
  readonly #worker: Worker;
  readonly #kind: string;
  readonly #state: Int32Array;
  readonly #mask: Int32Array;
  readonly #utf8: Utf8Guard;

  private constructor(worker: Worker, request: CompileRequest) {
    const { kind, state, mask } = request;
    this.#utf8 = new Utf8Guard(request);
    this.#worker = worker;
    this.#kind = kind;
    this.#state = state;
    this.#mask = mask;
  }

  /**
   * Compiles a grammar in a worker of its own.
   *
   * @throws {ValueError} if the grammar has a mistake
   * @throws {LimitError} if it takes too long
   * @throws {AbortError} if `signal` fires
   */
  static async compile(
    given: Omit<CompileRequest, "state" | "mask">,
    { signal, milliseconds = COMPILE_MS }: TokenMaskOptions = {},
  ): Promise<TokenMask> {
    throwIfAborted(signal, `compiling ${given.kind}`);
    const words = Math.ceil(given.vocab.length / 32);
    const request: CompileRequest = {
      ...given,
      state: new Int32Array(new SharedArrayBuffer(8)),
      mask: new Int32Array(new SharedArrayBuffer(4 * words)),
    };
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(grammarWorkerSource())}`), {
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
    });
    try {
      await compiled(worker, request, milliseconds, signal);
      return new TokenMask(worker, request);
    } catch (error) {
      await worker.terminate();
      throw error;
    }
  }

  /**
   * Forbids what may not follow `tokens`, in place; waits for the worker, most often less than a millisecond.
   *
   * @param row where the tokens come from: consecutive questions of one row are answered faster
   * @param tokens what was generated so far
   * @throws {ValueError} if matching fails; what does not match forbids all tokens
   * @throws {LimitError} if the answer takes too long
   */
  apply(row: number, tokens: readonly number[], scores: Float32Array): void {
    const before = Atomics.load(this.#state, 0);
    this.#worker.postMessage({ row, tokens });
    if (Atomics.wait(this.#state, 0, before, MASK_MS) === "timed-out") {
      throw new LimitError(
        `Cannot go on with generating as ${this.#kind} must be matched within ${MASK_MS} ms a token`,
      );
    }
    const answer = Atomics.load(this.#state, 1), mask = this.#mask;
    if (answer === 3) {
      throw new ValueError(`Cannot go on with generating as ${this.#kind} must be matched without an error: one came`);
    }
    if (answer === 2) return void scores.fill(-Infinity); // a beam that has no chance any more
    for (let id = 0; id < scores.length; id++) {
      if (!(mask[id >> 5]! >>> (id & 31) & 1)) scores[id] = -Infinity;
    }
    if (tokens.length) this.#utf8.apply(tokens.at(-1)!, scores);
  }

  /** Ends the worker. */
  [Symbol.dispose](): void {
    void this.#worker.terminate();
  }
}

/** Resolves when the worker has compiled. */
async function compiled(
  worker: Worker,
  request: CompileRequest,
  milliseconds: number,
  signal?: AbortSignal,
): Promise<void> {
  const { kind } = request, { promise, resolve, reject } = Promise.withResolvers<void>();
  const late = (doing: string, ms: number) =>
    setTimeout(() => {
      reject(new LimitError(`Cannot ${doing} as it must take at most ${ms} ms: it takes longer`));
    }, ms);
  let timer = late("start the thread that matches grammars", START_MS);
  worker.on("message", (message: "ready" | "compiled" | { error: string }) => {
    if (message === "compiled") return resolve();
    if (message !== "ready") {
      return reject(new ValueError(`Cannot generate as ${kind} must be one that can be compiled: ${message.error}`));
    }
    clearTimeout(timer);
    timer = late(`compile ${kind}`, milliseconds);
    worker.postMessage(request);
  });
  worker.on("error", (cause: Error) => {
    reject(new LimitError(`Cannot compile ${kind} as its thread failed: ${cause.message}`, { cause }));
  });
  const stop = () => {
    try {
      throwIfAborted(signal, `compiling ${kind}`);
    } catch (error) {
      reject(error);
    }
  };
  signal?.addEventListener("abort", stop);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}
