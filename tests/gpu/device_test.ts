import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { DeviceLostError, GpuError, NotSupportedError, ValueError } from "../../src/errors.ts";
import { type Device, openDevice } from "../../src/gpu/mod.ts";
import { rmsNorm } from "../../src/ops/rms_norm.ts";
import { empty, tensor } from "../../src/tensor/mod.ts";
import { assertClose } from "../helpers.ts";
import { providers } from "./providers.ts";

async function assertWorks(device: Device): Promise<void> {
  using x = tensor(device, [3, 4], [1, 2]);
  using w = tensor(device, [1, 1], [2]);
  using y = rmsNorm(x, w, 0);
  assertClose("y", await y.read(), [3 / Math.sqrt(12.5), 4 / Math.sqrt(12.5)]);
}

/** Everything that a user can do with a device fails with `error`, at once. */
async function assertAllFails(device: Device, error: Error): Promise<void> {
  const start = performance.now();
  const held = (make: () => unknown) => assertStrictEquals(assertThrows(make), error);
  held(() => tensor(device, [1], [1]));
  held(() => empty(device, [12345], "float32", { exact: true }));
  held(() => device.stream.record({} as never));
  held(() => device.stream.replay({ commands: [], dispose() {}, [Symbol.dispose]() {} }));
  assertStrictEquals(await assertRejects(() => device.synchronize()), error);
  assertStrictEquals(await assertRejects(() => device.guard.check()), error);
  assert(performance.now() - start < 500);
}

for (const provider of providers) {
  Deno.test(`openDevice() opens ${provider}, and explain() says what it is`, async () => {
    await using device = await openDevice({ provider });
    const report = device.explain();
    assertEquals(report.provider, provider);
    assertEquals(report.features, device.features);
    assertEquals(report.limits.maxBufferSize, device.gpu.limits.maxBufferSize);
    assertEquals(report.rungs.map(({ what }) => what), [
      "reductions and broadcasts",
      "16-bit weights and caches",
      "products of many rows",
      "kernel times",
    ]);
    assertMatch(`${report}`, new RegExp(`^.+ \\(.*provider ${provider}\\)\n  features  subgroups `));
    assertMatch(`${report}`, /\n {2}limit {5}maxBufferSize \d+\n/);
    assertMatch(`${report}`, /\n {2}memory {4}0 B in use, peak 0 B$/);
    await assertWorks(device);
  });

  Deno.test(`a loss fails 20 pending reads on ${provider} within a second, and everything after them`, async () => {
    const device = await openDevice({ provider });
    using x = tensor(device, [1, 2], [2]);
    const reads = Array.from({ length: 20 }, () => x.read());
    const start = performance.now();
    device.gpu.destroy();
    const first = await assertRejects(() => reads[0]!, DeviceLostError, "it was destroyed");
    for (const read of reads) assertStrictEquals(await assertRejects(() => read), first);
    assert(performance.now() - start < 1000, `${performance.now() - start} ms`);
    await assertAllFails(device, first);
    device.close();
    assertEquals(device.pool.stats.bytesInUse, 0);
    await using next = await openDevice({ provider });
    await assertWorks(next);
  });

  Deno.test(`Device.close() fails what is pending on ${provider}, and everything after`, async () => {
    const device = await openDevice({ provider });
    const x = tensor(device, new Float32Array(2 ** 20), [2 ** 20]);
    const reads = Array.from({ length: 5 }, () => x.read());
    device.close();
    device.close();
    const error = await assertRejects(() => reads[0]!, DeviceLostError, "it was closed");
    for (const read of reads) assertStrictEquals(await assertRejects(() => read), error);
    await assertAllFails(device, error);
    x.dispose(); // late, and harmless
    await new Promise((resolve) => setTimeout(resolve, 50)); // Deno's own end of the maps, for the sanitizer
    assertEquals(device.pool.stats.bytesInUse, 0);
  });

  Deno.test(`openDevice() wraps a GPUDevice of ${provider} and leaves it as it was`, async () => {
    await using owner = await openDevice({ provider });
    const { gpu } = owner;
    gpu.pushErrorScope("validation");
    for (let i = 0; i < 3; i++) {
      await using device = await openDevice({ provider, device: gpu });
      assertStrictEquals(device.gpu, gpu);
      await assertWorks(device);
    }
    gpu.createBuffer({ size: 4, usage: 0x3 }); // MAP_READ with MAP_WRITE: an error in the scope of its owner
    assertEquals((await gpu.popErrorScope())?.constructor.name, "GPUValidationError"); // Dawn has classes of its own
    await assertWorks(owner);
  });
}

const NONE = {
  subgroups: false,
  shaderF16: false,
  timestampQuery: false,
  shaderInt64: false,
  subgroupMatrix: false,
} as const;

Deno.test("openDevice() masks features off", async () => {
  await using device = await openDevice({ features: NONE });
  assertEquals(device.features, NONE);
  assertMatch(
    `${device.explain()}`,
    /subgroups no .*shader-f16 no, timestamp-query no, 64-bit loads no, subgroup matrices no/,
  );
  assertMatch(`${device.explain()}`, /reductions and broadcasts: workgroup memory \(masked off/);
  await assertWorks(device);
});

Deno.test("openDevice() refuses a device without a feature that is insisted on, and does not destroy what it was given", async () => {
  const adapter = await navigator.gpu.requestAdapter();
  const plain = await adapter!.requestDevice();
  for (const name of ["subgroups", "shaderF16", "timestampQuery", "shaderInt64", "subgroupMatrix"]) {
    const open = () => openDevice({ device: plain, features: { [name]: true } });
    await assertRejects(open, NotSupportedError, `the adapter must have ${name}`);
  }
  await using device = await openDevice({ device: plain });
  assertEquals(device.features, NONE);
  await assertWorks(device);
  plain.destroy();
});

Deno.test("openDevice() refuses options that make no sense", async () => {
  for (const memoryBudget of [0, -1, NaN]) {
    await assertRejects(() => openDevice({ memoryBudget }), ValueError, `current value is ${memoryBudget}`);
  }
  for (const gpuTimeout of [0, -5, NaN]) {
    await assertRejects(() => openDevice({ gpuTimeout }), ValueError, `current value is ${gpuTimeout}`);
  }
});

const limits = { maxBufferSize: 2 ** 28 };
const drivers: [name: string, requestAdapter: () => Promise<unknown>, message: string][] = [
  ["no adapter", () => Promise.resolve(null), "a WebGPU adapter must be there: deno found none"],
  ["an adapter that refuses", () => {
    const requestDevice = () => Promise.reject(new DOMException("not today", "OperationError"));
    return Promise.resolve({ limits, features: new Set(), info: { vendor: "acme" }, requestDevice });
  }, "acme (buffers up to 256 MiB) refused: not today"],
  ["a driver that does not find adapters", () => new Promise(() => {}), "the driver must answer within 60 ms"],
  ["a driver that does not open devices", () => {
    return Promise.resolve({ limits, features: new Set(), requestDevice: () => new Promise(() => {}) });
  }, "the driver must answer within 60 ms"],
];

for (const [name, requestAdapter, message] of drivers) {
  Deno.test(`openDevice() gives a GpuError for ${name}`, async () => {
    const real = Object.getOwnPropertyDescriptor(navigator, "gpu");
    Object.defineProperty(navigator, "gpu", { value: { requestAdapter }, configurable: true });
    try {
      const error = await assertRejects(() => openDevice({ gpuTimeout: 60 }), GpuError, message);
      assertMatch(error.message, /^Cannot open a GPU device as /);
    } finally {
      if (real) Object.defineProperty(navigator, "gpu", real);
      else Reflect.deleteProperty(navigator, "gpu");
    }
  });
}

Deno.test("openDevice() gives a typed error for a device that is lost already", async () => {
  const adapter = await navigator.gpu.requestAdapter();
  const lost = await adapter!.requestDevice();
  lost.destroy();
  await lost.lost;
  const device = await openDevice({ device: lost }).catch((error) => error);
  if (device instanceof Error) assertInstanceOf(device, DeviceLostError);
  else await assertRejects(() => device.synchronize(), DeviceLostError, "it was destroyed");
});

Deno.test("what a device held is free after close()", async () => {
  await using owner = await openDevice(); // one GPUDevice: wgpu itself keeps memory for each that was ever opened
  const data = new Float32Array(2 ** 22); // 16 MiB
  const cycle = async () => {
    await using device = await openDevice({ device: owner.gpu });
    tensor(device, data, [data.length]); // not disposed of
    await assertWorks(device);
  };
  for (let i = 0; i < 5; i++) await cycle();
  const before = Deno.memoryUsage().rss;
  for (let i = 0; i < 25; i++) await cycle();
  const grown = (Deno.memoryUsage().rss - before) / 2 ** 20;
  assert(grown < 200, `${grown.toFixed(1)} MiB over 25 devices of 16 MiB`);
});

Deno.test("openDevice() on Dawn says what its package needs where that does not load", async () => {
  const code = `import { openDevice } from ${JSON.stringify(new URL("../../src/gpu/mod.ts", import.meta.url).href)};
    await openDevice({ provider: "dawn" }).catch(({ name, message, hint }) => console.log(name, message, hint));`;
  const args = ["eval", "--no-npm", "--no-lock", "--quiet", code];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args, cwd: new URL("../../", import.meta.url) })
    .output();
  const said = new TextDecoder().decode(stdout);
  assert(said.startsWith("GpuError Cannot open a GPU device as the package webgpu"), said);
  assert(said.includes("npm registry"), said);
});
