import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/errors.ts";
import { emptyPacked, type PackOptions, packWeight } from "../../src/ops/pack_weight.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { testDevice } from "../helpers.ts";

const device = await testDevice();

/** Piece [rows, cols], packed matrix [rows, columns], and what goes where. */
const cases: [piece: [number, number], packed: [number, number], PackOptions][] = [
  [[1, 1], [1, 1], {}],
  [[3, 5], [5, 3], { transpose: true }],
  [[8, 12], [12, 8], { transpose: true }], // tiles
  [[36, 68], [72, 100], { transpose: true, column: 8, row: 3 }], // more than a block, in the middle
  [[8, 12], [12, 12], { transpose: true, column: 3 }], // a column that no tile begins at
  [[8, 12], [12, 8], { transpose: true, columns: [4, 4], rows: [4, 8] }], // a part, in tiles
  [[8, 12], [12, 8], { transpose: true, columns: [3, 4], rows: [1, 6], column: 1 }],
  [[6, 8], [9, 8], { row: 2 }], // copied
  [[6, 8], [9, 8], { row: 2, rows: [3, 2] }],
  [[6, 8], [6, 16], { column: 8 }],
  [[6, 8], [6, 8], { columns: [2, 5], rows: [1, 4], column: 1, row: 1 }],
  [[36, 68], [72, 100], { transpose: true, column: 8, row: 4, strip: 16 }], // strips, the last of 4 columns
  [[6, 20], [9, 20], { row: 2, strip: 8 }], // no copy
  [[13, 5], [7, 14], { transpose: true, column: 1, row: 2, strip: 8 }],
];
for (const [piece, packed, options] of cases) {
  for (const dtype of ["float32", "float16"] as const) {
    Deno.test(`packWeight() of ${piece} into ${packed} ${dtype} with ${JSON.stringify(options)}`, async () => {
      const data = Float32Array.from({ length: piece[0] * piece[1] }, (_, i) => i % 2000 + 1);
      const { transpose = false, column = 0, row = 0 } = options;
      const across = transpose ? piece[0] : piece[1], down = transpose ? piece[1] : piece[0];
      const { columns: [left, columns] = [0, across], rows: [top, rows] = [0, down] } = options;
      using x = tensor(device, data, piece, dtype);
      using w = emptyPacked(device, ...packed, dtype);
      const stride = w.shape[1]!, want = new Float32Array(w.size).fill(-1);
      const { strip = stride } = options;
      w.write(want);
      for (let k = 0; k < rows; k++) {
        for (let i = 0; i < columns; i++) {
          const from = transpose ? (left + i) * piece[1] + top + k : (top + k) * piece[1] + left + i;
          const at = column + i, before = at - at % strip;
          want[before * packed[0] + (row + k) * Math.min(strip, stride - before) + at % strip] = data[from]!;
        }
      }
      packWeight(x, w, options);
      assertEquals(Float32Array.from(await w.read()), want);
    });
  }
}

const wrong: [string, PackOptions][] = [
  ["a column too far", { column: 5 }],
  ["a row too far", { row: 1 }],
  ["columns that the piece has not", { columns: [2, 3] }],
  ["rows that the piece has not", { rows: [5, 2] }],
];
for (const [what, options] of wrong) {
  Deno.test(`packWeight() refuses ${what}`, () => {
    using x = tensor(device, new Float32Array(24), [6, 4]);
    using w = emptyPacked(device, 6, 8, "float32");
    assertThrows(() => packWeight(x, w, options), ShapeError, "Cannot pack a weight");
  });
}
