import { assert, assertEquals, assertRejects } from "@std/assert";
import { AbortError, GpuError } from "../../src/errors.ts";
import { kernel, openDevice } from "../../src/gpu/mod.ts";
import { gelu, rmsNorm, softmax } from "../../src/ops/mod.ts";
import { type Tensor, tensor } from "../../src/tensor/mod.ts";
import { providers } from "./providers.ts";

const wrong = kernel(
  "test_wrong",
  `@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(1)
fn main() {
  y[0] = 1.5;
}`,
);

for (const provider of providers) {
  const open = () => openDevice({ provider, tuningFile: null });
  const input = (device: Awaited<ReturnType<typeof open>>) => {
    return [tensor(device, [1, 2, 3, 4], [1, 4]), tensor(device, [1, 1, 1, 1], [4])] as const;
  };
  const program = (x: Tensor, w: Tensor) => softmax(gelu(rmsNorm(x, w, 1e-6)));

  Deno.test(`KernelCache.collect() runs nothing and finds what compile() then compiles, on ${provider}`, async () => {
    await using device = await open();
    const [x, w] = input(device), { counters } = device.kernels, { dispatches } = device.stream.counters;
    const variants = device.kernels.collect(() => {
      program(x, w);
      program(x, w);
    });
    assertEquals(variants.map(({ name }) => name.split(" ")[0]), ["rms_norm", "unary", "softmax"]);
    assertEquals([counters.pipelines, counters.bindGroups], [0, 0]);
    await device.synchronize();
    assertEquals(device.stream.counters.dispatches, dispatches);
    const told: string[] = [];
    device.kernels.onCompile = (name) => told.push(name);
    await device.kernels.compile(variants);
    assertEquals(told, variants.map(({ key }) => key));
    const y = [...await program(x, w).read()];
    assertEquals(counters.pipelines, 3);
    assert(Math.abs(y.reduce((sum, p) => sum + p) - 1) < 1e-5);
    assertEquals(device.kernels.collect(() => program(x, w)), []);
  });

  Deno.test(`KernelCache.compile() says where a shader is wrong, on ${provider}`, async () => {
    await using device = await open();
    using y = tensor(device, [0], [1], "uint32");
    const variants = device.kernels.collect(() => wrong(device, { bindings: { y }, grid: [1] }));
    const compiled = async () => {
      await device.kernels.compile(variants);
      await device.synchronize();
    };
    await assertRejects(compiled, GpuError, "test_wrong.wgsl:4");
  });

  Deno.test(`KernelCache.compile() stops at a signal, on ${provider}`, async () => {
    await using device = await open();
    const [x, w] = input(device);
    const variants = device.kernels.collect(() => program(x, w));
    await assertRejects(() => device.kernels.compile(variants, { signal: AbortSignal.abort() }), AbortError);
    assertEquals(device.kernels.counters.pipelines, 0);
  });
}
