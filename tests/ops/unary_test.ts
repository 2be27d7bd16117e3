import { assertEquals, assertThrows } from "@std/assert";
import { DtypeError } from "../../src/errors.ts";
import { gelu, quickGelu, relu, sigmoid, silu, softcap, tanh, unaryReference } from "../../src/ops/unary.ts";
import { type Tensor, tensor } from "../../src/tensor/mod.ts";
import { asGpu, assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor } from "../reference.ts";

const device = await testDevice();
const functions: Record<string, [flag: string, op: (x: Tensor) => Tensor]> = {
  gelu: ["GELU", (x) => gelu(x)],
  gelu_tanh: ["GELU_TANH", (x) => gelu(x, { approximate: "tanh" })],
  quick_gelu: ["QUICK_GELU", quickGelu],
  silu: ["SILU", silu],
  relu: ["RELU", relu],
  tanh: ["TANH", tanh],
  sigmoid: ["SIGMOID", sigmoid],
  softcap: ["CAP", (x) => softcap(x, 2)],
};
const extremes = [0, -0, 1e-30, -1e-30, 1, -1, 5, -5, 12, -12, 90, -90, 1e4, -1e4, 1e18, -1e18, 3e38, -3e38];

for (const [name, [flag, op]] of Object.entries(functions)) {
  // one element, less than a vec4, not a multiple of 4, one more than a workgroup, several workgroups
  for (const size of [1, 3, 66, 4097, 9000]) {
    Deno.test(`${name}() equals its reference at [${size}]`, async () => {
      const x = randn(size).map((v) => 4 * v);
      using y = op(tensor(device, x, [size]));
      assertClose("y", await y.read(), x.map(unaryReference[flag]!), { rtol: 1e-5, atol: 2e-6 });
    });
  }

  Deno.test(`${name}() overflows for no number`, async () => {
    using y = op(tensor(device, extremes, [extremes.length]));
    assertClose("y", await y.read(), Float32Array.from(extremes, unaryReference[flag]!), { rtol: 1e-5, atol: 2e-6 });
  });
}

Deno.test("silu() gives the same with the workgroups of a GPU", async () => {
  const x = randn(1030);
  using y = asGpu(device, () => silu(tensor(device, x, [1030])));
  assertClose("y", await y.read(), x.map(unaryReference.SILU!), { atol: 2e-6 });
});

interface Case {
  inputs: { x: GoldenTensor };
  outputs: { out: GoldenTensor };
  params: { name: string };
}
for (const c of await goldenCases<Case>("data/ops/activations", "activation")) {
  const [, op] = functions[c.params.name] ?? [];
  if (!op) continue;
  Deno.test(`${c.name}() equals torch's`, async () => {
    using y = op(tensor(device, c.inputs.x.data as Float32Array, c.inputs.x.shape));
    assertClose("y", await y.read(), c.outputs.out.data as Float32Array, c.tolerance);
  });
}

Deno.test("silu() reads a view from where it begins, and takes nothing and scalars", async () => {
  const x = randn(3 * 64);
  using y = silu(tensor(device, x, [3, 64]).rows(1, 2));
  assertClose("y", await y.read(), x.subarray(64, 128).map(unaryReference.SILU!), { atol: 2e-6 });
  assertEquals(silu(tensor(device, [], [4, 0])).shape, [4, 0]);
  using scalar = silu(tensor(device, [0], []));
  assertEquals([...await scalar.read()], [0]);
});

Deno.test("gelu() refuses a dtype that is not float32", () => {
  assertThrows(
    () => gelu(tensor(device, [1], [1], "float16")),
    DtypeError,
    "Cannot run gelu as x must be float32: current dtype is float16",
  );
});
