/**
 * A GPU error never becomes text: this guard owns the error scopes of a device, keeps the first error, and fails
 * everything that comes after it.
 *
 * @module
 */
import { DeviceLostError, GpuError, OutOfMemoryError, TensaurError } from "../errors.ts";

const FILTERS = ["validation", "out-of-memory", "internal"] as const;
const TICKS = 4; // the watchdog looks this often in one time-out: a blocked event loop counts as one look
const LOSS_DELAY = 50; // ms: a loss is announced after the errors that it causes

interface Wait {
  what: string;
  reject: (error: TensaurError) => void;
}

/** Watches one `GPUDevice`: error scopes, uncaptured errors, loss and hangs. */
export class Guard {
  /** What to say of memory when the GPU has none left; the pool sets it. */
  describeMemory: (() => string) | undefined;
  readonly #gpu: GPUDevice;
  readonly #timeout: number;
  readonly #onUncaptured: (event: Event) => void;
  readonly #waits = new Set<Wait>();
  readonly #checks = new Set<Promise<void>>();
  #judged: Promise<void> = Promise.resolve();
  #first: TensaurError | undefined;
  #watchdog: ReturnType<typeof setInterval> | undefined;
  #looks = 0;

  /** Opens the error scopes of `gpu`; `timeout` ms without an answer count as a hang, and the device as lost. */
  constructor(gpu: GPUDevice, timeout: number) {
    this.#gpu = gpu;
    this.#timeout = timeout;
    this.#onUncaptured = (event) => {
      event.preventDefault();
      this.fail(this.#fromGpuError((event as GPUUncapturedErrorEvent).error));
    };
    gpu.addEventListener("uncapturederror", this.#onUncaptured);
    gpu.lost.then((info) => {
      if (this.#first) return; // Dawn frees `info` as the process ends: it is read only where it tells something new
      this.fail(lostError(info.reason === "destroyed" ? "it was destroyed" : info.message || "the driver reset it"));
    });
    this.call("open the error scopes", () => this.#open());
  }

  /** The first error, if any happened; a {@linkcode DeviceLostError} once the device is closed. */
  get error(): TensaurError | undefined {
    return this.#first;
  }

  /** Records `error` as the device's failure if it is the first, and rejects everything that waits. */
  fail(error: TensaurError): void {
    if (this.#first) return;
    this.#first = error;
    for (const wait of this.#waits) wait.reject(error);
    this.#waits.clear();
    this.#watch();
  }

  /** Throws the device's first error, if there is one. */
  throwIfFailed(): void {
    if (this.#first) throw this.#first;
  }

  /** Runs a WebGPU call; what it throws becomes the device's failure. */
  call<T>(what: string, fn: () => T): T {
    this.throwIfFailed();
    try {
      return fn();
    } catch (cause) {
      if (cause instanceof TensaurError) throw cause;
      this.fail(new GpuError(`Cannot ${what} as the GPU call failed: ${message(cause)}`, { cause }));
      throw this.#first;
    }
  }

  /** Adds an asynchronous check (a shader's compilation) that {@linkcode check} waits for. */
  track(check: Promise<void>): void {
    const done = check.catch((cause) => this.#blame(toTensaurError(cause)))
      .then(() => void this.#checks.delete(done));
    this.#checks.add(done);
  }

  /** Resolves if no error has happened on the device up to now, else throws the first one. */
  async check(): Promise<void> {
    const popped = this.call("read the error state", () => {
      const errors = Promise.all([...FILTERS].reverse().map(() => this.#gpu.popErrorScope()));
      this.#open();
      return errors;
    });
    popped.catch(() => {}); // awaited below, perhaps after it has failed
    this.#judged = this.#judge(this.#judged, [...this.#checks], popped);
    await this.race(this.#judged, "the error state");
    this.throwIfFailed();
  }

  /** `promise`, or the device's failure if that comes first, or a hang after the time-out. */
  race<T>(promise: PromiseLike<T>, what: string): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const wait = { what, reject };
      promise.then((value) => {
        this.#end(wait);
        resolve(value);
      }, async (cause) => {
        await this.#blame(toTensaurError(cause, what));
        this.#end(wait);
        reject(this.#first);
      });
      if (this.#first) return reject(this.#first);
      this.#waits.add(wait);
      this.#watch();
    });
  }

  /** Fails everything that still waits; a device that lives on (`restore`) gets its scopes back as they were. */
  close(restore: boolean): void {
    this.fail(lostError("it was closed", "Open a new device with openDevice()."));
    this.#gpu.removeEventListener("uncapturederror", this.#onUncaptured);
    if (!restore) return;
    try {
      for (const _ of FILTERS) this.#gpu.popErrorScope().catch(() => {});
    } catch { /* it is lost already, and its scopes with it */ }
  }

  /** Earlier checks are judged first, and shader compilations before the errors that an invalid pipeline causes. */
  async #judge(
    earlier: Promise<void>,
    compilations: readonly Promise<void>[],
    popped: Promise<readonly (GPUError | null)[]>,
  ): Promise<void> {
    await earlier;
    await Promise.all(compilations);
    for (const error of await popped) {
      if (error) await this.#blame(this.#fromGpuError(error));
    }
  }

  /** Fails with `error`, unless it turns out to be the consequence of a loss. */
  async #blame(error: TensaurError): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, LOSS_DELAY));
    if (!this.#first) await Promise.race([this.#gpu.lost.then(() => {}), late]);
    clearTimeout(timer);
    this.fail(error);
  }

  #end(wait: Wait): void {
    this.#waits.delete(wait);
    this.#looks = 0; // an answer: the GPU is alive
    this.#watch();
  }

  /** Runs the watchdog while anything waits. */
  #watch(): void {
    if (this.#waits.size === 0) {
      clearInterval(this.#watchdog);
      this.#watchdog = undefined;
    } else {
      this.#watchdog ??= setInterval(() => this.#look(), this.#timeout / TICKS);
    }
  }

  #look(): void {
    if (++this.#looks <= TICKS) return;
    const [wait] = this.#waits;
    this.fail(
      lostError(
        `${wait?.what} gave no answer for ${this.#timeout} ms`,
        "Raise gpuTimeout, or use a smaller batch; a device that hangs must be opened again.",
      ),
    );
  }

  #open(): void {
    for (const filter of FILTERS) this.#gpu.pushErrorScope(filter);
  }

  #fromGpuError(cause: GPUError): TensaurError {
    if (cause.constructor.name === "GPUOutOfMemoryError") {
      return new OutOfMemoryError(
        `Cannot go on as GPU memory is exhausted: ${this.describeMemory?.() ?? cause.message}`,
        { cause, hint: "Use a smaller model, dtype or context, or close other programs that use the GPU." },
      );
    }
    return new GpuError(`Cannot go on as the GPU reported an error: ${cause.message}`, { cause });
  }
}

function lostError(why: string, hint = "Open a new device and load the model again."): DeviceLostError {
  return new DeviceLostError(`Cannot use the GPU device as it was lost: ${why}`, { hint });
}

function toTensaurError(cause: unknown, what = "the GPU queue"): TensaurError {
  if (cause instanceof TensaurError) return cause;
  return new GpuError(`Cannot finish ${what} as the GPU call failed: ${message(cause)}`, { cause });
}

function message(cause: unknown): string {
  return (cause instanceof Error && cause.message) || String(cause);
}
