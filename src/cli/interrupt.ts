import { EXIT } from "./exit_code.ts";

/**
 * Ctrl-C as an AbortSignal. The second one ends the process at once.
 *
 * While kernels compile, JavaScript does not run and no listener hears anything: {@linkcode Interrupt.lift} gives Ctrl-C
 * its usual meaning for such a time.
 */
export class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #onSignal = () => this.fire();

  /** Listens from now on. */
  constructor() {
    Deno.addSignalListener("SIGINT", this.#onSignal);
  }

  /** Fires at the first Ctrl-C. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What Ctrl-C does. */
  fire(): void {
    if (this.signal.aborted) Deno.exit(EXIT.interrupted);
    this.#controller.abort();
  }

  /** Runs `work` during which Ctrl-C ends the process. */
  async lift<T>(work: () => Promise<T>): Promise<T> {
    Deno.removeSignalListener("SIGINT", this.#onSignal);
    try {
      return await work();
    } finally {
      Deno.addSignalListener("SIGINT", this.#onSignal);
    }
  }

  /** Stops listening. */
  [Symbol.dispose](): void {
    Deno.removeSignalListener("SIGINT", this.#onSignal);
  }
}
