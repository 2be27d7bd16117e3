import { assert, assertRejects, assertStrictEquals } from "@std/assert";
import { GpuError, TensaurError } from "../../src/errors.ts";
import { type Device, kernel, openDevice } from "../../src/gpu/mod.ts";
import { rmsNorm } from "../../src/ops/rms_norm.ts";
import { empty, type Tensor, tensor } from "../../src/tensor/mod.ts";
import { assertClose } from "../helpers.ts";
import { providers } from "./providers.ts";

const write = kernel(
  "test_write",
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main() { y[0] = 7.0; }`,
);
const writeF16 = kernel(
  "test_write_f16",
  `enable f16;
@group(0) @binding(0) var<storage, read_write> y: array<f16>;
@compute @workgroup_size(1) fn main() { y[0] = 7.0h; }`,
);
const readAndWrite = kernel(
  "test_read_and_write",
  `@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main() { y[0] = x[0]; }`,
);

const nothing = kernel("test_nothing", "this is not WGSL");
const tooWide = kernel(
  "test_too_wide",
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(65535) fn main() { y[0] = 7.0; }`,
);
const tooMuch = kernel(
  "test_too_much",
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
var<workgroup> a: array<f32, 1000000>;
@compute @workgroup_size(1) fn main() { a[u32(y[0])] = 7.0; y[0] = a[1]; }`,
);

/** Mistakes that no check of ours stands before; each must be caught by the device's error scopes. */
const faults: [name: string, act: (device: Device, y: Tensor) => unknown, on?: "deno" | "dawn"][] = [
  ["a buffer over the limit", (d) => d.gpu.createBuffer({ size: 2 * d.limits.maxBufferSize, usage: 0x80 })],
  ["usages that exclude each other", (d) => d.gpu.createBuffer({ size: 16, usage: 0x3 })],
  ["a grid of 70,000 workgroups", (d, y) => {
    const recording = d.stream.capture(() => write(d, { bindings: { y }, grid: [1] }));
    const dispatch = recording.commands.findLast((c) => c.kind === "dispatch")!;
    d.stream.record({ ...dispatch, x: 70_000 });
  }],
  ["a destroyed buffer bound", (d, y) => {
    y.buffer.gpu.destroy();
    write(d, { bindings: { y }, grid: [1] });
  }],
  ["a destroyed buffer written to", (_, y) => {
    y.buffer.gpu.destroy();
    y.write([1, 2, 3, 4]);
  }],
  ["a copy past the end", (d, y) => d.stream.copy(y.buffer.gpu, 0, y.buffer.gpu, 0, 4 * y.buffer.size)],
  ["a copy of half a word", (d, y) => d.stream.copy(y.buffer.gpu, 0, y.buffer.gpu, 128, 6)],
  ["a write past the end", (d, y) => d.stream.write(y.buffer, y.buffer.size, new Uint8Array(4))],
  ["a write to half a word", (d, y) => d.stream.write(y.buffer, 2, new Uint8Array(4))],
  ["a binding past the end", (d, { buffer }) => {
    write(d, { bindings: { y: { buffer, byteOffset: 0, byteLength: 2 * buffer.size } }, grid: [1] });
  }],
  ["a binding at an odd offset", (d, { buffer }) => {
    write(d, { bindings: { y: { buffer, byteOffset: 4, byteLength: 4 } }, grid: [1] });
  }],
  ["a buffer read and written in one dispatch", (d, y) => readAndWrite(d, { bindings: { x: y, y }, grid: [1] })],
  ["WGSL that needs a feature the device lacks", (d, y) => writeF16(d, { bindings: { y }, grid: [1] })],
  ["WGSL that is none", (d, y) => nothing(d, { bindings: { y }, grid: [1] })],
  ["a workgroup of too many threads", (d, y) => tooWide(d, { bindings: { y }, grid: [1] })],
  ["a workgroup with too much memory", (d, y) => tooMuch(d, { bindings: { y }, grid: [1] }), "dawn"], // wgpu lets it run
  ["a buffer that may do nothing", (d) => d.gpu.createBuffer({ size: 16, usage: 0 })],
  ["a query set that is too large", (d) => d.gpu.createQuerySet({ type: "occlusion", count: 100_000 })],
  ["a destroyed buffer copied from", (d, y) => {
    y.buffer.gpu.destroy();
    d.stream.copy(y.buffer.gpu, 0, d.gpu.createBuffer({ size: 16, usage: 0x8 }), 0, 16);
  }],
  ["a copy into a buffer that is mapped", (d, y) => {
    const mapped = d.gpu.createBuffer({ size: 16, usage: 0x9, mappedAtCreation: true });
    d.stream.copy(y.buffer.gpu, 0, mapped, 0, 16);
  }],
  ["a copy out of what may not be read", (d, y) => {
    d.stream.copy(d.gpu.createBuffer({ size: 16, usage: 0x8 }), 0, y.buffer.gpu, 0, 16);
  }],
  ["a scope popped behind our back", (d) => {
    for (let i = 0; i < 4; i++) d.gpu.popErrorScope().catch(() => {});
  }, "dawn"], // wgpu gives null for a pop of nothing
];

const dawn = globalThis as typeof globalThis & { tensaurDawn?: { gpu: GPU; objects: unknown[] } };

/** A device with default limits and no features, so that there is something to lack. */
async function plainDevice({ provider }: Device): Promise<GPUDevice> {
  const gpu = provider === "deno" ? navigator.gpu : dawn.tensaurDawn!.gpu;
  const adapter = await gpu.requestAdapter();
  const plain = await adapter!.requestDevice();
  if (provider === "dawn") dawn.tensaurDawn!.objects.push(adapter, plain); // or it crashes when they are collected
  return plain;
}

for (const provider of providers) {
  const owner = await openDevice({ provider });

  for (const [name, act, only] of faults) {
    if (only && only !== provider) continue;
    Deno.test(`${name} is an error on ${provider}, not a wrong number`, async () => {
      const gpu = await plainDevice(owner);
      const device = await openDevice({ provider, device: gpu });
      const y = tensor(device, [1, 2, 3, 4], [4]);
      const attempt = async () => {
        act(device, y);
        await device.synchronize();
      };
      const error = await assertRejects(attempt, GpuError);
      assert(error instanceof TensaurError && error.message.startsWith("Cannot "), error.message);
      assertStrictEquals(await assertRejects(() => device.synchronize()), error);
      device.close();

      await using next = await openDevice({ provider, device: gpu });
      using x = tensor(next, [3, 4], [1, 2]);
      using w = tensor(next, [1, 1], [2]);
      using z = rmsNorm(x, w, 0);
      assertClose("z", await z.read(), [3 / Math.sqrt(12.5), 4 / Math.sqrt(12.5)]);
      next.close();
      gpu.destroy();
      await gpu.lost;
    });
  }

  Deno.test(`elements past the end are not another tensor's on ${provider}`, async () => {
    await using device = await openDevice({ provider });
    using a = tensor(device, [1, 1, 1, 1], [4]);
    using b = empty(device, [1]);
    readAndWrite(device, { bindings: { x: a, y: b }, grid: [1] });
    const outside = kernel(
      "test_outside",
      `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main() { y[arrayLength(&y) + 100u] = 9.0; }`,
    );
    outside(device, { bindings: { y: b }, grid: [1] });
    assertClose("a", await a.read(), [1, 1, 1, 1]);
  });
}
