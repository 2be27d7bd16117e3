import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError, ShapeError } from "../../src/errors.ts";
import {
  type GateActivation,
  gatedActivation,
  gatedActivationReference,
  geglu,
  swiglu,
} from "../../src/ops/gated_activation.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";

const device = await testDevice();
const cases = [
  // rows, I: one element, odd, a multiple of 4, wider than a block, more than 65,535 rows
  [1, 1],
  [3, 33],
  [5, 64],
  [2, 1028],
  [1, 1030],
  [65_537, 2],
] as const;

for (const [rows, width] of cases) {
  Deno.test(`swiglu() and geglu() equal their reference at [${rows}, 2 * ${width}]`, async () => {
    const x = randn(rows * 2 * width);
    using t = tensor(device, x, [rows, 2 * width]);
    using silu = swiglu(t);
    using gelu = geglu(t, { approximate: "tanh" });
    assertEquals(silu.shape, [rows, width]);
    assertClose("swiglu", await silu.read(), gatedActivationReference(x, width, "silu"), { atol: 2e-6 });
    assertClose("geglu", await gelu.read(), gatedActivationReference(x, width, "gelu_tanh"), { atol: 2e-6 });
  });
}

for (const name of ["gelu", "quick_gelu", "relu", "tanh", "sigmoid", "identity"] satisfies GateActivation[]) {
  Deno.test(`gatedActivation() knows ${name}`, async () => {
    const x = randn(3 * 2 * 12);
    using y = gatedActivation(tensor(device, x, [3, 24]), name);
    assertClose("y", await y.read(), gatedActivationReference(x, 12, name), { atol: 2e-6 });
  });
}

Deno.test("swiglu() reads a view from where it begins, and takes leading dimensions and nothing", async () => {
  const x = randn(3 * 64);
  using y = swiglu(tensor(device, x, [3, 64]).rows(1, 3).reshape([2, 2, 32]));
  assertEquals(y.shape, [2, 2, 16]);
  assertClose("y", await y.read(), gatedActivationReference(x.slice(64), 16, "silu"), { atol: 2e-6 });
  assertEquals(swiglu(tensor(device, [], [0, 8])).shape, [0, 4]);
  assertEquals(swiglu(tensor(device, [], [2, 0])).shape, [2, 0]);
});

Deno.test("swiglu() refuses what does not fit", () => {
  assertThrows(
    () => swiglu(tensor(device, [1, 2, 3], [1, 3])),
    ShapeError,
    "Cannot run swiglu as the last dimension of x must be even: current shape is [1, 3]",
  );
  assertThrows(() => swiglu(tensor(device, [1], [])), ShapeError, "x must be […, 2 * I]");
  assertThrows(() => geglu(tensor(device, [1, 2], [2], "float16")), DtypeError, "geglu");
});
