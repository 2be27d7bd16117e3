/** Weights as the loader packs them: every dtype to every other, to the bit. */
import { assert, assertEquals } from "@std/assert";
import type { DenseLinear } from "../../src/quantization/mod.ts";
import { type Tensor, tensor } from "../../src/tensor/mod.ts";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import { WeightLoader } from "../../src/weights/loader.ts";
import { writeSafetensors } from "../../src/weights/save.ts";
import type { LinearOptions, WeightDtype } from "../../src/weights/source.ts";
import { randn, testDevice } from "../helpers.ts";
import { bytesOf, type StoredDtype } from "../models/tiny_model.ts";
import { TemporaryFolder } from "./fixture.ts";

const device = await testDevice();
const DTYPES: readonly WeightDtype[] = ["float32", "float16", "bfloat16"];
const STORED: readonly StoredDtype[] = ["F32", "F16", "BF16", "F64"];

/** Numbers that are hard to round: signed zeros, ties, subnormals, the ends of the ranges. */
const HARD = [
  ...[0, -0, 1, -1, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -1 - 2 ** -9],
  ...[65504, 65519, 65520, -1e6, 1e30, 3.3e38, -3.38e38, 2 ** -14, 2 ** -24, 2 ** -25, 1.5 * 2 ** -25, 6.1e-5, 1 / 3],
  ...[Infinity, -Infinity, NaN], // what is no number stays none
];

function numbers(n: number): Float64Array {
  const data = randn(n, n);
  return Float64Array.from(data, (x, i) => i % 7 === 3 ? HARD[(i / 7 | 0) % HARD.length]! : x);
}

const value = new Float32Array(1), bits = new Uint32Array(value.buffer), half = new Float16Array(1);

function toFloat16(x: number): number {
  half[0] = x;
  return half[0]!;
}

/** To the nearest of the two bfloat16 numbers around x, of two equally near ones to the even. */
function toBfloat16(x: number): number {
  if (!Number.isFinite(x)) return x;
  value[0] = x;
  bits[0]! &= 0xffff0000;
  const below = value[0]!;
  bits[0]! += 0x10000;
  const above = value[0]!;
  const [down, up] = [Math.abs(x - below), Math.abs(above - x)];
  if (down !== up) return down < up ? below : above;
  return (bits[0]! >>> 16) % 2 === 0 ? above : below;
}

const rounded: Record<WeightDtype, (x: number) => number> = {
  float32: Math.fround,
  float16: toFloat16,
  bfloat16: toBfloat16,
};
const asStored: Record<StoredDtype, (x: number) => number> = {
  F64: Math.fround, // sums are float32: float64 is read as float32 first
  F32: Math.fround,
  F16: toFloat16,
  BF16: toBfloat16,
};

/** A loader over the tensors given. */
async function withLoader<T>(
  tensors: Record<string, { shape: number[]; data: Float64Array; dtype: StoredDtype }>,
  dtype: WeightDtype,
  use: (loader: WeightLoader) => Promise<T>,
): Promise<T> {
  using folder = new TemporaryFolder();
  await writeSafetensors(
    `${folder.path}/model.safetensors`,
    Object.entries(tensors).map(([name, t]) => ({ name, ...t, data: bytesOf(t.data, t.dtype) })),
  );
  using checkpoint = await openCheckpoint(folder.path);
  using loader = new WeightLoader(device, checkpoint, { dtype, prefix: "", readBytes: checkpoint.byteLength });
  return await use(loader);
}

/** Everything that a lookup of ids 0 to n - 1 gives. */
async function allRows(n: number, lookup: (ids: Tensor) => Tensor): Promise<ArrayLike<number>> {
  using ids = tensor(device, [...Array(n).keys()], [n], "uint32");
  using rows = lookup(ids);
  return await rows.read();
}

/** Fails unless `got` is `data` as a checkpoint of `stored` holds it, rounded to `dtype`. */
function assertRounded(got: ArrayLike<number>, data: ArrayLike<number>, stored: StoredDtype, dtype: WeightDtype): void {
  assertEquals(got.length, data.length);
  for (let i = 0; i < data.length; i++) {
    const want = rounded[dtype](asStored[stored](data[i]!));
    if (got[i] !== want && !(Number.isNaN(got[i]) && Number.isNaN(want))) {
      assertEquals(got[i], want, `element ${i}, ${data[i]}: got ${got[i]}, want ${want}`);
    }
  }
}

/** Outputs of each fused part, inputs, and how the checkpoint keeps them. */
const linears: [number[], number, LinearOptions][] = [
  [[1], 1, {}],
  [[5], 3, { bias: true }],
  [[33], 129, {}],
  [[15, 15, 15], 15, { bias: true }], // 16-bit parts that end inside a word
  [[7, 3, 3], 20, { bias: true }],
  [[9, 1, 2, 1], 5, {}],
  [[16, 4, 4], 24, { bias: true }], // turned in tiles
  [[36], 68, {}],
  [[12], 8, { conv1d: true }], // copied where the dtypes are equal
  [[21], 13, { conv1d: true, bias: true }],
];
for (const stored of STORED) {
  for (const dtype of DTYPES) {
    Deno.test(`WeightLoader rounds ${stored} to ${dtype} as the reference does`, async () => {
      for (const [outs, inputs, options] of linears) {
        const names = outs.map((_, i) => `part${i}`);
        const parts = outs.map((n) => numbers(n * inputs));
        const tensors = Object.fromEntries(names.flatMap((name, i) => {
          const shape = options.conv1d ? [inputs, outs[i]!] : [outs[i]!, inputs];
          const weight = { shape, data: parts[i]!, dtype: stored };
          return [[`${name}.weight`, weight], [`${name}.bias`, {
            shape: [outs[i]!],
            data: numbers(outs[i]!),
            dtype: stored,
          }]];
        }));
        const total = outs.reduce((sum, n) => sum + n, 0);
        await withLoader(tensors, dtype, async (loader) => {
          const layer = await loader.linear(
            names,
            inputs,
            outs,
            options,
          ) as DenseLinear;
          await loader.load();
          const rows = outs.flatMap((n, i) =>
            Array.from({ length: n * inputs }, (_, at) => {
              const [o, k] = [Math.floor(at / inputs), at % inputs];
              return parts[i]![options.conv1d ? k * n + o : at]!;
            })
          );
          assertRounded(await allRows(total, (ids) => layer.embed(ids)), rows, stored, dtype);
          assertEquals(layer.bias !== undefined, options.bias === true);
          const bias = outs.flatMap((n) => [...numbers(n)]);
          if (layer.bias) assertRounded(await layer.bias.read(), bias, stored, "float32");
        });
      }
      const [rows, width] = [37, 11];
      const table = { "t.weight": { shape: [rows, width], data: numbers(rows * width), dtype: stored } };
      await withLoader(table, dtype, async (loader) => {
        const embedding = await loader.embedding("t", rows, width);
        await loader.load();
        assertRounded(await allRows(rows, (ids) => embedding.forward(ids)), table["t.weight"].data, stored, dtype);
      });
    });
  }
}

for (const [dtype, stored] of [["float16", "F32"], ["bfloat16", "F64"], ["float32", "BF16"]] as const) {
  Deno.test(`WeightLoader loads a ${stored} tensor of over 8 MiB to ${dtype} piece by piece`, async () => {
    const [rows, width] = [1031, 2053]; // no piece ends where the tensor does, and rows are no whole words in 16 bits
    const data = numbers(rows * width);
    const tensors = { "w.weight": { shape: [rows, width], data, dtype: stored } };
    const before = device.pool.stats.bytesInUse;
    await withLoader(tensors, dtype, async (loader) => {
      device.pool.resetPeak();
      const layer = await loader.linear("w", width, rows);
      await loader.load();
      const { peakBytes } = device.pool.stats;
      assert(peakBytes - before - layer.byteLength < 2.6e6, `${peakBytes - before} bytes for ${layer.byteLength}`);
      assertRounded(await allRows(rows, (ids) => layer.embed(ids)), data, stored, dtype);
    });
    await withLoader(tensors, dtype, async (loader) => {
      const embedding = await loader.embedding("w", rows, width);
      await loader.load();
      assertRounded(await allRows(rows, (ids) => embedding.forward(ids)), data, stored, dtype);
    });
    assertEquals(device.pool.stats.bytesInUse, before);
  });
}
