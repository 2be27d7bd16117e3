import type { Device } from "../../gpu/mod.ts";
import { appendTokens, countTokens, type TokenHistory, zeros } from "../../ops/mod.ts";
import { keep, type Tensor, tensor } from "../../tensor/mod.ts";
import type { GpuState } from "./processor.ts";

const MOST_TOKENS = 2 ** 20; // no cache holds more, whatever maxNewTokens says

/** What the processors of one run keep on the GPU, as far as they ask for it. */
export class RunState implements GpuState, Disposable {
  readonly device: Device;
  readonly step: Tensor;
  /** See {@linkcode GpuState}. */
  readonly unconditional: () => Tensor;
  readonly #owned: DisposableStack = new DisposableStack();
  readonly #rows: readonly (readonly number[])[];
  readonly #vocabSize: number;
  readonly #room: number;
  readonly #counts = new Map<number, Tensor>();
  #history: TokenHistory | undefined;

  /**
   * @param rows ids of the prompts
   * @param newTokens most tokens that come after each
   * @param step [1] uint32: steps so far
   */
  constructor(
    device: Device,
    rows: readonly (readonly number[])[],
    vocabSize: number,
    newTokens: number,
    step: Tensor,
    unconditional: () => Tensor,
  ) {
    this.device = device;
    this.step = step;
    this.unconditional = unconditional;
    this.#rows = rows;
    this.#vocabSize = vocabSize;
    this.#room = Math.min(newTokens, MOST_TOKENS);
  }

  /** See {@linkcode GpuState}. */
  readonly put: GpuState["put"] = (data, dtype = "uint32", shape = [data.length]) => {
    return this.#owned.use(keep(this.device, tensor(this.device, data, shape, dtype)));
  };

  /** See {@linkcode GpuState}. */
  readonly counts: GpuState["counts"] = (skip) => {
    const known = this.#counts.get(skip);
    if (known) return known;
    const { device } = this, rows = this.#rows.map((row) => row.slice(skip));
    const counts = this.#owned.use(keep(device, zeros(device, [rows.length, this.#vocabSize], "uint32")));
    this.#counts.set(skip, counts);
    const starts = rows.reduce((sums, row) => [...sums, sums.at(-1)! + row.length], [0]);
    if (starts.at(-1) === 0) return counts;
    using prompt = tensor(device, rows.flat(), [starts.at(-1)!], "uint32");
    using cuSeqlens = tensor(device, starts, [starts.length], "uint32");
    countTokens(counts, prompt, cuSeqlens);
    return counts;
  };

  /** See {@linkcode GpuState}. */
  readonly history: GpuState["history"] = () => {
    if (this.#history) return this.#history;
    const rows = this.#rows, width = Math.max(...rows.map((row) => row.length)) + this.#room;
    const padded = rows.flatMap((row) => [...row, ...new Array<number>(width - row.length).fill(0)]);
    const ids = this.put(padded, "uint32", [rows.length, width]);
    return this.#history = { ids, lengths: this.put(rows.map((row) => row.length)) };
  };

  /**
   * Takes the tokens of a step.
   *
   * @param tokens [B] uint32
   * @param cuSeqlens [B + 1] uint32: 0, 1, … B
   */
  took(tokens: Tensor, cuSeqlens: Tensor): void {
    for (const counts of this.#counts.values()) countTokens(counts, tokens, cuSeqlens);
    if (this.#history) appendTokens(this.#history, tokens);
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}
