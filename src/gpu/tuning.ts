/**
 * Choices between kernels that only a measurement on the device can make.
 *
 * @module
 */
import { GpuError, throwIfAborted } from "../errors.ts";
import type { Device } from "./device.ts";
import { type Choices, deviceKey, readChoices, writeChoices } from "./tuning_store.ts";

/** One of several ways to do the same. */
export interface Candidate {
  /** What it is called in reports and on disk. */
  name: string;
  /** Records the work once; returns what it allocates to the pool. */
  run(): void;
}

/** How {@linkcode Tuning.tune} measures. */
export interface TuneOptions {
  /** Milliseconds that one choice may take, compilation left out. Default 200. */
  limit?: number;
  /** Stops the work. */
  signal?: AbortSignal;
}

const LIMIT = 200, ROUNDS = 16;
const BATCH = 8; // launches between two looks at the clock: one waits for the GPU

/** The choices of one device: those of earlier runs, and those made in this one. */
export class Tuning {
  /** Where choices are kept; undefined for nowhere. */
  readonly file: string | undefined;
  readonly #device: Device;
  readonly #key: string;
  readonly #wanted = new Map<string, readonly Candidate[]>();
  readonly #given = new Map<string, string>();
  #known: Choices | undefined;

  /** Choices for `device`, kept in `file`. */
  constructor(device: Device, file: string | undefined) {
    this.file = file;
    this.#device = device;
    this.#key = deviceKey(device.provider, device.info);
  }

  /** The choices of this run and of earlier ones, by what they are for. */
  get all(): ReadonlyMap<string, string> {
    return new Map([...this.#choices, ...this.#given]);
  }

  /**
   * The candidate to use for `key`: the chosen one, else the first, and the choice is noted for
   * {@linkcode Tuning.settle}: candidates allocate what they work on.
   *
   * @throws {GpuError} if there is no candidate
   */
  choice(key: string, candidates: () => readonly Candidate[]): string {
    const given = this.#given.get(key);
    if (given !== undefined) return given;
    const noted = this.#wanted.get(key);
    if (noted) return noted[0]!.name;
    const list = candidates(), chosen = this.#chosen(key, list);
    if (chosen !== undefined) return chosen;
    this.#wanted.set(key, list);
    return list[0]!.name;
  }

  /** Makes the choices that {@linkcode Tuning.choice} could not; returns how many. */
  async settle(options: TuneOptions = {}): Promise<number> {
    const wanted = [...this.#wanted];
    for (const [key, candidates] of wanted) await this.tune(key, candidates, options);
    return wanted.length;
  }

  /**
   * The fastest of `candidates`, as known from this run or an earlier one, else measured now, side by side. Where the
   * time is up before each was measured, it is the first, for this run only.
   *
   * @throws {GpuError} if there is no candidate
   * @throws {AbortError} if `signal` fires
   */
  async tune(key: string, candidates: readonly Candidate[], options: TuneOptions = {}): Promise<string> {
    const known = this.#chosen(key, candidates);
    this.#wanted.delete(key);
    if (known !== undefined) return known;
    const fastest = candidates.length === 1 ? candidates[0] : await this.#measure(candidates, options);
    const chosen = (fastest ?? candidates[0]!).name;
    this.#given.set(key, chosen);
    if (fastest) {
      this.#choices.set(key, chosen);
      writeChoices(this.file, this.#key, new Map([[key, chosen]]));
    }
    return chosen;
  }

  get #choices(): Choices {
    return this.#known ??= readChoices(this.file, this.#key);
  }

  /** What was chosen, if it is still there to choose. */
  #chosen(key: string, candidates: readonly Candidate[]): string | undefined {
    if (candidates.length === 0) throw new GpuError(`Cannot tune ${key} as there must be a candidate: none came`);
    const chosen = this.#given.get(key) ?? this.#choices.get(key);
    if (chosen === undefined || !candidates.some(({ name }) => name === chosen)) return undefined;
    this.#given.set(key, chosen);
    return chosen;
  }

  async #measure(candidates: readonly Candidate[], { limit = LIMIT, signal }: TuneOptions) {
    for (const { run } of candidates) run(); // compiles
    await this.#device.synchronize();
    const least = candidates.map(() => Infinity), end = performance.now() + limit;
    for (let round = 0; round < ROUNDS && (round === 0 || performance.now() < end); round++) {
      for (const [i, { run }] of candidates.entries()) {
        throwIfAborted(signal, "tuning");
        least[i] = Math.min(least[i]!, await this.#time(run));
        if (performance.now() > end && least.includes(Infinity)) return undefined;
      }
    }
    return candidates[least.indexOf(Math.min(...least))]!;
  }

  /** Milliseconds of some launches. */
  async #time(run: () => void): Promise<number> {
    const { stream, provider } = this.#device;
    const start = performance.now();
    for (let i = 0; i < BATCH; i++) run();
    const done = this.#device.synchronize();
    const inCall = performance.now(); // in Deno the call has waited for the GPU, and the promise sleeps 10 ms more
    await done;
    return (stream.readsEarly && provider === "deno" ? inCall : performance.now()) - start;
  }
}

/**
 * The fastest of `candidates` on `device`; see {@linkcode Tuning.tune}.
 *
 * @example
 * ```ts
 * import { openDevice, tensor, tune } from "@tensaur/tensaur";
 * import { softmax } from "@tensaur/tensaur/ops";
 * await using device = await openDevice({ tuningFile: null });
 * using x = tensor(device, new Float32Array(1024), [4, 256]);
 * const rows = () => softmax(x).dispose();
 * console.log(await tune(device, "softmax 4 x 256", [{ name: "rows", run: rows }])); // rows
 * ```
 */
export function tune(
  device: Device,
  key: string,
  candidates: readonly Candidate[],
  options?: TuneOptions,
): Promise<string> {
  return device.tuning.tune(key, candidates, options);
}
