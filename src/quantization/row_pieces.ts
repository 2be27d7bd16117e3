/**
 * Rows of float weights in pieces, however they lie in the checkpoint.
 *
 * @module
 */
import { NotSupportedError } from "../errors.ts";
import { packWeight } from "../ops/pack_weight.ts";
import { empty, keep, type Tensor } from "../tensor/mod.ts";
import { exactBytes, type LayerShape, type TensorReader } from "./scheme.ts";

export const rowPieces = {
  /**
   * Gives part `index` of a layer to `pack` in pieces [rows, K] with their first row, each a multiple of `multiple` rows
   * but the last; weights that lie [in, out] are first turned, a matrix at a time.
   */
  async read(
    reader: TensorReader,
    { names, inputs, outputs, conv1d, slice }: LayerShape,
    index: number,
    multiple: number,
    pack: (piece: Tensor, row: number) => void,
  ): Promise<void> {
    const name = `${names[index]}.weight`, rows = outputs[index]!, { device } = reader;
    const take = (piece: Tensor, row: number) => {
      if (row === 0) reader.sample?.(piece);
      pack(piece, row);
    };
    if (!conv1d) return await reader.pieces(name, take, { multiple, rows: slice });
    if (inputs % 4 !== 0) {
      throw new NotSupportedError(
        `Cannot quantize ${name} as its inputs must be a multiple of 4 where they lie first: current number is ${inputs}`,
      );
    }
    using turned = keep(device, empty(device, [rows, inputs]));
    const some = [slice?.first ?? 0, rows] as const;
    await reader.pieces(name, (piece, row) => packWeight(piece, turned, { transpose: true, column: row, rows: some }));
    take(turned, 0);
  },

  /** Bytes that it takes beside a piece. */
  loadingBytes({ inputs, outputs, conv1d }: LayerShape): number {
    return conv1d ? exactBytes(inputs * Math.max(...outputs)) : 0;
  },
};
