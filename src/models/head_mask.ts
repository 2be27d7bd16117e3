import { ShapeError, ValueError } from "../errors.ts";
import type { Device } from "../gpu/mod.ts";
import { type Tensor, tensor } from "../tensor/mod.ts";

/** [layers][heads]: what each head's probabilities are multiplied by; or [heads], for all layers. */
export type HeadMask = readonly (readonly number[])[] | readonly number[];

/**
 * A head mask with a row for each layer.
 *
 * @throws {ShapeError} if there is not one factor a head, or not one row a layer
 * @throws {ValueError} if a factor is not finite
 */
export function headMaskRows(mask: HeadMask, layers: number, heads: number): number[][] {
  const single = mask.every((row) => typeof row === "number");
  const rows = single ? Array.from({ length: layers }, () => [...mask]) : mask.map((row) => [row].flat());
  if (rows.length !== layers || rows.some((row) => row.length !== heads)) {
    const came = single ? `[${mask.length}]` : `${rows.length} rows of ${[...new Set(rows.map((row) => row.length))]}`;
    throw new ShapeError(
      `Cannot run the model as headMask must be [${heads}] or [${layers}, ${heads}], a factor a head: current shape is ` +
        came,
    );
  }
  if (!rows.flat().every(Number.isFinite)) {
    throw new ValueError(`Cannot run the model as headMask must be finite numbers: current value is ${rows.flat()}`);
  }
  return rows;
}

/** The factors of each layer for heads that lie side by side: [H·Dh] each. */
export function headMaskTensors(device: Device, rows: readonly (readonly number[])[], headDim: number): Tensor[] {
  return rows.map((row) => {
    const factors = row.flatMap((factor) => Array<number>(headDim).fill(factor));
    return tensor(device, factors, [factors.length]);
  });
}
