import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/errors.ts";
import { causalConv1d, causalConv1dReference } from "../../src/ops/causal_conv1d.ts";
import { selectiveScan, selectiveScanReference } from "../../src/ops/selective_scan.ts";
import { type Tensor, tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();
const put = (x: Float32Array, shape: number[]): Tensor => tensor(device, x, shape);
const starts = (lengths: readonly number[]) => {
  const sums = lengths.reduce((all, n) => [...all, all.at(-1)! + n], [0]);
  return tensor(device, sums, [sums.length], "uint32");
};
/** Rows `from` to `to` of width `n`. */
const rows = (x: Float32Array, n: number, from: number, to: number) => x.subarray(from * n, to * n);

const CASES = [
  // lengths of sequences, channels, window, size of the state: one token, ragged, an empty one, more than a workgroup
  { lengths: [1], I: 1, K: 2, N: 1 },
  { lengths: [1, 1, 1], I: 70, K: 4, N: 16 },
  { lengths: [5, 0, 2, 9], I: 37, K: 3, N: 5 },
  { lengths: [33], I: 130, K: 4, N: 8 },
];

for (const { lengths, I, K, N } of CASES) {
  const T = lengths.reduce((sum, n) => sum + n, 0), B = lengths.length;
  const name = `lengths ${lengths}, ${I} channels`;

  for (const biased of [true, false]) {
    Deno.test(`causalConv1d() equals its reference, states included: ${name}${biased ? ", bias" : ""}`, async () => {
      const W = I + 3, x = randn(T * W), weight = randn(I * K, 2), states = randn(B * I * K, 3);
      const bias = biased ? randn(I, 4) : undefined, after = states.slice();
      const s = put(states, [B, I, K]), b = bias && put(bias, [I]);
      using y = causalConv1d(put(x, [T, W]), {
        weight: put(weight, [I, K]),
        bias: b,
        states: s,
        cuSeqlens: starts(lengths),
      });
      let at = 0;
      const want = lengths.flatMap((n, b) => {
        const part = rows(x, W, at, at += n).filter((_, i) => i % W < I);
        return [...causalConv1dReference(part, weight, bias, rows(after, I * K, b, b + 1), K)];
      });
      assertClose("y", await y.read(), Float32Array.from(want), { rtol: 1e-5, atol: 1e-5 });
      assertEquals(await s.read(), after);
    });
  }

  for (const gated of [true, false]) {
    Deno.test(`selectiveScan() equals its reference, states included: ${name}${gated ? ", gated" : ""}`, async () => {
      const R = 2, W = R + 2 * N, u = randn(T * I), dt = randn(T * I, 2).map((v) => 3 * v - 3), bc = randn(T * W, 3);
      const aLog = randn(I * N, 4), d = randn(I, 5), states = randn(B * I * N, 6), z = randn(T * 2 * I, 7);
      const after = states.slice(), s = put(states, [B, I, N]), a = aLog.map((v) => -Math.exp(v));
      using y = selectiveScan(put(u, [T, I]), {
        dt: put(dt, [T, I]),
        aLog: put(aLog, [I, N]),
        bc: put(bc, [T, W]),
        d: put(d, [I]),
        z: gated ? put(z, [T, 2 * I]) : undefined,
        states: s,
        cuSeqlens: starts(lengths),
      });
      let at = 0;
      const want = lengths.flatMap((n, i) => {
        const from = at, to = at += n, own = rows(bc, W, from, to);
        const scan = {
          dt: rows(dt, I, from, to),
          a,
          b: own.filter((_, j) => j % W >= R && j % W < R + N),
          c: own.filter((_, j) => j % W >= R + N),
          d,
          state: rows(after, I * N, i, i + 1),
        };
        const gate = rows(z, 2 * I, from, to).filter((_, j) => j % (2 * I) >= I);
        return [...selectiveScanReference(rows(u, I, from, to), scan)].map((v, j) =>
          gated ? v * gate[j]! / (1 + Math.exp(-gate[j]!)) : v
        );
      });
      assertClose("y", await y.read(), Float32Array.from(want), { rtol: 2e-5, atol: 2e-5 });
      assertClose("states", await s.read(), after, { rtol: 2e-5, atol: 2e-5 });
    });
  }
}

interface Case {
  inputs: Record<"u" | "dt" | "A" | "B" | "C" | "D" | "z", GoldenTensor>;
  outputs: Record<"out" | "gated" | "last_state", GoldenTensor>;
}
for (const { name, inputs, outputs, tolerance } of await goldenCases<Case>("data/ops/misc", "selective_scan")) {
  Deno.test(`selectiveScan() equals torch's at ${name}`, async () => {
    const data = (t: GoldenTensor) => t.data as Float32Array;
    const [B = 1, I = 1, T = 1] = inputs.u.shape, N = inputs.A.shape.at(-1)!;
    // torch's are [B, channels, T]
    const rowsOf = (t: GoldenTensor) => {
      const [, C = 1] = t.shape, x = data(t);
      return x.map((_, j) => x[(Math.floor(j / C / T) * C + j % C) * T + Math.floor(j / C) % T]!);
    };
    const [b, c] = [rowsOf(inputs.B), rowsOf(inputs.C)];
    const bc = Float32Array.from({ length: B * T * 2 * N }, (_, j) => {
      const row = Math.floor(j / (2 * N)), column = j % (2 * N);
      return column < N ? b[row * N + column]! : c[row * N + column - N]!;
    });
    const states = put(new Float32Array(B * I * N), [B, I, N]), u = put(rowsOf(inputs.u), [B * T, I]);
    const scan = {
      dt: put(rowsOf(inputs.dt).map((v) => Math.log(Math.expm1(v))), [B * T, I]),
      aLog: put(data(inputs.A).map((v) => Math.log(-v)), [I, N]),
      bc: put(bc, [B * T, 2 * N]),
      d: put(data(inputs.D), [I]),
      states,
      cuSeqlens: starts(Array(B).fill(T)),
    };
    using gated = selectiveScan(u, { ...scan, z: put(rowsOf(inputs.z), [B * T, I]) });
    assertClose("last state", await states.read(), data(outputs.last_state), tolerance);
    assertClose("gated", await gated.read(), rowsOf(outputs.gated), tolerance);
    states.write(new Float32Array(B * I * N));
    using plain = selectiveScan(u, scan);
    assertClose("out", await plain.read(), rowsOf(outputs.out), tolerance);
  });
}

Deno.test("selectiveScan() and causalConv1d() refuse what does not fit", () => {
  const x = put(randn(6), [2, 3]), states = put(randn(12), [1, 3, 4]), cuSeqlens = starts([2]);
  const wrong = { weight: put(randn(8), [2, 4]), states, cuSeqlens };
  assertThrows(() => causalConv1d(x, wrong), ShapeError, "states");
  const scan = {
    dt: x,
    aLog: put(randn(12), [3, 4]),
    bc: put(randn(16), [2, 8]),
    d: put(randn(2), [2]),
    states,
    cuSeqlens,
  };
  assertThrows(() => selectiveScan(x, scan), ShapeError, "d must be");
});
