/**
 * A GPU error never becomes text: this guard owns the error scopes of a device, keeps the first error, and fails
 * everything that comes after it.
 *
 * @module
 */
import { DeviceLostError, GpuError, OutOfMemoryError, TensaurError } from "../errors.ts";

const FILTERS = ["validation", "out-of-memory", "internal"] as const;

/** Watches one `GPUDevice`: error scopes, uncaptured errors, loss and hangs. */
export class Guard {
  readonly #gpu: GPUDevice;
  readonly #timeout: number;
  readonly #failure = Promise.withResolvers<never>();
  readonly #checks = new Set<Promise<void>>();
  #first: TensaurError | undefined;
  #closed = false;

  /** Opens the error scopes of `gpu`; a wait longer than `timeout` ms counts as a hang and the device as lost. */
  constructor(gpu: GPUDevice, timeout: number) {
    this.#gpu = gpu;
    this.#timeout = timeout;
    this.#failure.promise.catch(() => {}); // nobody need be waiting when it fails
    gpu.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      this.fail(fromGpuError((event as GPUUncapturedErrorEvent).error, "the GPU queue"));
    });
    gpu.lost.then((info) => {
      if (this.#closed) return;
      this.fail(lostError(info.reason === "destroyed" ? "it was destroyed" : info.message || "the driver reset it"));
    });
    this.#open();
  }

  /** The first error, if any happened. */
  get error(): TensaurError | undefined {
    return this.#first;
  }

  /** Records `error` as the device's failure if it is the first, and rejects everything that waits. */
  fail(error: TensaurError): void {
    if (this.#first) return;
    this.#first = error;
    this.#failure.reject(error);
  }

  /** Throws the device's first error, if there is one. */
  throwIfFailed(): void {
    if (this.#first) throw this.#first;
    if (this.#closed) throw lostError("it was closed", "Open a new device with openDevice().");
  }

  /** Runs a WebGPU call; what it throws becomes the device's failure. */
  call<T>(what: string, fn: () => T): T {
    this.throwIfFailed();
    try {
      return fn();
    } catch (cause) {
      this.fail(new GpuError(`Cannot ${what} as the GPU call failed: ${message(cause)}`, { cause }));
      throw this.#first;
    }
  }

  /** Adds an asynchronous check (a shader's compilation) that {@linkcode check} waits for. */
  track(check: Promise<void>): void {
    const done = check.catch((cause) => this.fail(toTensaurError(cause))).then(() => void this.#checks.delete(done));
    this.#checks.add(done);
  }

  /** Resolves if no error has happened on the device up to now, else throws the first one. */
  async check(): Promise<void> {
    this.throwIfFailed();
    const scopes = this.call("read the error state", () => {
      const popped = [...FILTERS].reverse().map(() => this.#gpu.popErrorScope());
      this.#open();
      return popped;
    });
    for (const error of await this.race(Promise.all(scopes), "the error state")) {
      if (error) this.fail(fromGpuError(error, "the GPU queue"));
    }
    if (this.#checks.size) await this.race(Promise.all(this.#checks), "shader compilation");
    this.throwIfFailed();
  }

  /** `promise`, or the device's failure if that comes first, or a hang after the time-out. */
  async race<T>(promise: Promise<T>, what: string): Promise<T> {
    this.throwIfFailed();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.fail(
          lostError(`${what} took longer than ${this.#timeout} ms`, "Raise gpuTimeout, or use a smaller batch."),
        );
        reject(this.#first);
      }, this.#timeout);
    });
    try {
      return await Promise.race([promise, this.#failure.promise, late]);
    } catch (cause) {
      this.fail(toTensaurError(cause, what));
      throw this.#first;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Marks the device as closed on purpose: its loss is no failure. */
  close(): void {
    this.#closed = true;
  }

  #open(): void {
    for (const filter of FILTERS) this.#gpu.pushErrorScope(filter);
  }
}

function fromGpuError(error: GPUError, what: string): TensaurError {
  if (error.constructor.name === "GPUOutOfMemoryError") {
    return new OutOfMemoryError(`Cannot go on with ${what} as GPU memory is exhausted: ${error.message}`, {
      cause: error,
      hint: "Use a smaller model, dtype or context, or close other programs that use the GPU.",
    });
  }
  return new GpuError(`Cannot go on with ${what} as the GPU reported an error: ${error.message}`, { cause: error });
}

function lostError(why: string, hint = "Open a new device and load the model again."): DeviceLostError {
  return new DeviceLostError(`Cannot use the GPU device as it was lost: ${why}`, { hint });
}

function toTensaurError(cause: unknown, what = "the GPU queue"): TensaurError {
  if (cause instanceof TensaurError) return cause;
  return new GpuError(`Cannot finish ${what} as the GPU call failed: ${message(cause)}`, { cause });
}

function message(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
