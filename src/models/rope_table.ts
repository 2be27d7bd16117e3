import { ValueError } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import { empty, keep, type Tensor } from "../tensor/mod.ts";
import { type RopeConfig, ropeFrequencies } from "./rope.ts";

const FIRST_POSITIONS = 256;

/**
 * Cosines and sines of a model's rotary embeddings on a device, made as far as sequences reach.
 *
 * @example
 * ```ts
 * import { openDevice, ropeConfig, RopeTable } from "@tensaur/tensaur";
 * await using device = await openDevice();
 * using rope = new RopeTable(device, ropeConfig({ rope_theta: 10000 }, 64));
 * console.log(rope.table(100).shape); // [256, 2, 32]
 * ```
 */
export class RopeTable implements Disposable {
  /** Tables by the frequencies in them, the longest last; shorter ones may be part of a recording. */
  readonly #tables = new Map<string, Tensor[]>();
  #dynamicLength = 0;

  /** An empty table. */
  constructor(
    /** Where the tables lie. */
    readonly device: Device,
    /** What they are made from. */
    readonly rope: RopeConfig,
  ) {}

  /**
   * The table for sequences of up to `maxLength` positions. It belongs to this object and stays as it is until
   * {@linkcode dispose}, but for "dynamic" scaling beyond `maxPositionEmbeddings`, where the next length overwrites it.
   *
   * @param maxLength the longest sequence's number of positions, the cached ones too
   * @returns [positions ≥ maxLength, 2, rotaryDim / 2] float32: cosines, then sines, times the attention factor
   * @throws {GpuError} if a table must be made while a recording is captured: call it once before
   */
  table(maxLength: number): Tensor {
    if (!(Number.isSafeInteger(maxLength) && maxLength > 0)) {
      throw new ValueError(
        `Cannot make a rotary table as its length must be a positive integer: current value is ${maxLength}`,
      );
    }
    const kind = this.#kind(maxLength);
    const tables = this.#tables.get(kind) ?? [];
    this.#tables.set(kind, tables);
    const last = tables.at(-1);
    if (last && last.shape[0]! >= maxLength) {
      if (kind === "dynamic" && this.#dynamicLength !== maxLength) this.#write(last, maxLength);
      return last;
    }
    const shape = ropeTableShape(this.rope, maxLength);
    const table = keep(this.device, empty(this.device, shape, "float32", { exact: true, label: "a rotary table" }));
    try {
      this.#write(table, maxLength);
    } catch (error) {
      table.dispose();
      throw error;
    }
    tables.push(table);
    return table;
  }

  /**
   * Whether one table serves every length from `minLength` to `maxLength`: `table(maxLength)` may then be part of a
   * recording that is replayed while sequences grow.
   */
  stable(maxLength: number, minLength = 1): boolean {
    const kind = this.#kind(maxLength);
    return kind !== "dynamic" && kind === this.#kind(minLength);
  }

  /** Returns the memory of all tables. */
  dispose(): void {
    for (const table of [...this.#tables.values()].flat()) table.dispose();
    this.#tables.clear();
  }

  /** As {@linkcode dispose}. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Lengths of one kind share their frequencies, those of "dynamic" apart. */
  #kind(length: number): "plain" | "long" | "dynamic" {
    const { ropeType, maxPositionEmbeddings, originalMaxPositionEmbeddings } = this.rope;
    if (ropeType === "dynamic" && length > maxPositionEmbeddings) return "dynamic";
    return ropeType === "longrope" && length > originalMaxPositionEmbeddings ? "long" : "plain";
  }

  #write(table: Tensor, length: number): void {
    const { invFreq, attentionFactor } = ropeFrequencies(this.rope, length);
    table.write(ropeTableValues(table.shape[0]!, invFreq, attentionFactor));
    if (this.#kind(length) === "dynamic") this.#dynamicLength = length;
  }
}

/** Shape of the table for sequences of up to `maxLength` positions: [positions ≥ maxLength, 2, rotaryDim / 2]. */
export function ropeTableShape({ rotaryDim, maxPositionEmbeddings }: RopeConfig, maxLength: number): number[] {
  const doubled = Math.max(FIRST_POSITIONS, 2 ** Math.ceil(Math.log2(maxLength)));
  return [Math.min(doubled, Math.max(maxLength, maxPositionEmbeddings)), 2, rotaryDim / 2];
}

/** [positions, 2, invFreq.length]; the angle is taken in f64, since in f32 it has lost its fraction at long contexts. */
function ropeTableValues(positions: number, invFreq: Float64Array, attentionFactor: number): Float32Array {
  const half = invFreq.length;
  const table = new Float32Array(positions * 2 * half);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      const angle = position * invFreq[i]!, at = position * 2 * half + i;
      table[at] = Math.cos(angle) * attentionFactor;
      table[at + half] = Math.sin(angle) * attentionFactor;
    }
  }
  return table;
}
