import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { DeviceLostError, ValueError } from "../../src/errors.ts";
import { type Device, kernel, openDevice } from "../../src/gpu/mod.ts";
import { empty, type Tensor, tensor } from "../../src/tensor/mod.ts";
import { testDevice } from "../helpers.ts";
import { providers } from "./providers.ts";

const device = await testDevice();

// y[i] = a * x[i] + b[i]
const launch = kernel(
  "test_axpb",
  `override A: f32 = 1.0;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < arrayLength(&y)) {
    y[id.x] = A * x[id.x] + b[id.x];
  }
}`,
);

function axpb(A: number, x: Tensor, b: Tensor, y = empty(device, x.shape)): Tensor {
  launch(device, { overrides: { A }, bindings: { x, b, y }, grid: [Math.ceil(x.size / 64)] });
  return y;
}

function copyTo(from: Tensor, to: Tensor): void {
  device.stream.copy(from.buffer.gpu, from.byteOffset, to.buffer.gpu, to.byteOffset, from.byteLength);
}

const ones = tensor(device, [1, 1, 1, 1], [4]);

Deno.test("Stream.write() comes after recorded work that uses the buffer, and before what is recorded later", async () => {
  const x = tensor(device, [1, 2, 3, 4], [4]);
  const before = axpb(1, x, ones);
  x.write([10, 20, 30, 40]);
  const after = axpb(1, x, ones);
  assertEquals([...await before.read()], [2, 3, 4, 5]);
  assertEquals([...await after.read()], [11, 21, 31, 41]);
});

Deno.test("Stream.write() to a recycled buffer does not disturb work that was recorded with it", async () => {
  const results: Tensor[] = [];
  for (let i = 0; i < 10; i++) {
    using x = tensor(device, [i, i, i, i], [4]); // one and the same buffer each time
    results.push(axpb(2, x, ones));
  }
  for (const [i, y] of results.entries()) assertEquals([...await y.read()], Array(4).fill(2 * i + 1));
});

Deno.test("Stream.read() gives 20 overlapping reads in order, each of its own moment", async () => {
  const y = empty(device, [4]);
  const start = performance.now();
  const reads = Array.from({ length: 20 }, (_, i) => {
    axpb(i, ones, ones, y);
    return y.read();
  });
  const settled: number[] = [];
  reads.forEach((read, i) => read.then(() => settled.push(i)));
  const values = await Promise.all(reads);
  assertEquals(values.map((v) => v[0]), Array.from({ length: 20 }, (_, i) => i + 1));
  assertEquals(settled, [...settled].sort((a, b) => a - b));
  assert(performance.now() - start < 2000);
});

const spans = [
  // dtype, elements, bytes from the start: a whole word, half words at the end, nothing, more than is cached
  ["float32", 1],
  ["float16", 1],
  ["float16", 3],
  ["bfloat16", 5],
  ["float32", 0],
  ["uint32", 2 ** 20 + 3],
] as const;

for (const [dtype, n] of spans) {
  Deno.test(`Stream.read() gives back ${n} elements of ${dtype}`, async () => {
    const data = Array.from({ length: n }, (_, i) => i % 100);
    using t = tensor(device, data, [n], dtype);
    const got = await t.read();
    assertEquals(got.length, n);
    assertEquals(Array.from(got).findIndex((v, i) => v !== data[i]), -1);
  });
}

Deno.test("Stream.record() submits long lists in parts, and nothing twice", async () => {
  const { submits, dispatches } = device.stream.counters;
  let y = ones;
  for (let i = 0; i < 600; i++) y = axpb(1, y, ones);
  assertEquals([...await y.read()], [601, 601, 601, 601]);
  assert(device.stream.counters.submits - submits >= 3);
  assertEquals(device.stream.counters.dispatches - dispatches, 600);
});

for (const provider of providers) {
  Deno.test(`Stream.read() early gives the same on ${provider}, in Deno without its 10 ms`, async () => {
    await using other = await openDevice({ provider });
    using t = empty(other, [4], "uint32");
    await t.read({ early: true });
    const start = performance.now();
    for (let i = 0; i < 50; i++) {
      t.write([i, 1, 2, 3]);
      assertEquals([...await t.read({ early: true })], [i, 1, 2, 3]);
      if (i % 10 === 0) assertEquals([...await t.read()], [i, 1, 2, 3]); // the two take turns with the buffers
    }
    assert(performance.now() - start < 450, `${performance.now() - start} ms`); // 605 without
    await other.stream.settled();
    const reads = Array.from({ length: 5 }, () => t.read({ early: true }));
    other.gpu.destroy();
    const outcomes = await Promise.allSettled(reads);
    for (const outcome of outcomes) { // what was there before the loss is right, the rest is told
      if (outcome.status === "fulfilled") assertEquals([...outcome.value], [49, 1, 2, 3]);
      else assertInstanceOf(outcome.reason, DeviceLostError);
    }
    await assertRejects(() => t.read({ early: true }), DeviceLostError);
  });
}

/** Two chained ops whose temporaries are recycled, into `out`. */
function step(x: Tensor, out: Tensor): void {
  using a = axpb(2, x, ones); // 2x + 1
  using b = axpb(3, a, ones); // 6x + 4
  copyTo(b, out);
}

Deno.test("Stream.replay() equals the direct run, with other inputs and in between other work", async () => {
  const x = tensor(device, [0, 0, 0, 0], [4]), out = empty(device, [4]);
  using recording = device.stream.capture(() => step(x, out));
  for (let i = 0; i < 5; i++) {
    x.write([i, i + 1, -i, 0.5]);
    device.stream.replay(recording);
    const replayed = await out.read();
    using direct = empty(device, [4]);
    step(x, direct);
    const others = Array.from({ length: 8 }, () => axpb(9, x, ones)); // takes whatever buffers are free
    device.stream.replay(recording);
    assertEquals(await direct.read(), replayed);
    assertEquals(await out.read(), replayed);
    for (const other of others) {
      assertEquals((await other.read())[0], 9 * i + 1);
      other.dispose();
    }
  }
});

Deno.test("Stream.replay() comes after recorded work, and before what is recorded later", async () => {
  const x = tensor(device, [1, 2, 3, 4], [4]), out = empty(device, [4]), seen = empty(device, [4]);
  using recording = device.stream.capture(() => step(x, out));
  copyTo(ones, x);
  device.stream.replay(recording);
  copyTo(out, seen);
  axpb(1, ones, ones, out); // out = 2
  assertEquals([...await seen.read(), ...await out.read()], [10, 10, 10, 10, 2, 2, 2, 2]);
});

Deno.test("Stream.replay() writes into no buffer that others hold, even after the recording's results are released", async () => {
  const x = tensor(device, [1, 2, 3, 4], [4]);
  let result!: Tensor;
  using recording = device.stream.capture(() => result = axpb(1, x, ones));
  device.stream.replay(recording);
  assertEquals([...await result.read()], [2, 3, 4, 5]);
  result.dispose();
  const others = Array.from({ length: 20 }, () => tensor(device, [7, 7, 7, 7], [4]));
  device.stream.replay(recording);
  for (const other of others) assertEquals([...await other.read()], [7, 7, 7, 7]);
});

Deno.test("Stream.replay() makes no pipeline, bind group or buffer, and writes nothing", async () => {
  const x = tensor(device, [1, 2, 3, 4], [4]), out = empty(device, [4]);
  step(x, out);
  using recording = device.stream.capture(() => step(x, out));
  const count = () => {
    const { writes, reads, copies, submits, dispatches } = device.stream.counters;
    return {
      ...device.kernels.counters,
      created: device.pool.stats.created,
      writes,
      reads,
      copies,
      submits,
      dispatches,
    };
  };
  const before = count(), inUse = device.pool.stats.bytesInUse;
  const dispatches = recording.commands.filter(({ kind }) => kind === "dispatch").length;
  for (let i = 0; i < 10; i++) device.stream.replay(recording);
  assertEquals(count(), {
    ...before,
    copies: before.copies + 10 * (recording.commands.length - dispatches),
    dispatches: before.dispatches + 10 * dispatches,
    submits: before.submits + 10,
  });
  assertEquals(device.pool.stats.bytesInUse, inUse);
  await device.synchronize();
});

Deno.test("Stream.capture() runs nothing, and returns its buffers when disposed of", async () => {
  const out = tensor(device, [5, 5, 5, 5], [4]);
  const { bytesInUse } = device.pool.stats;
  const recording = device.stream.capture(() => step(ones, out));
  assertEquals([...await out.read()], [5, 5, 5, 5]);
  assert(device.pool.stats.bytesInUse > bytesInUse);
  recording.dispose();
  recording.dispose();
  assertEquals(device.pool.stats.bytesInUse, bytesInUse);
  assertThrows(() => device.stream.replay(recording), ValueError, "it must not be disposed of");
});

const forbidden: [name: string, act: () => unknown][] = [
  ["write from the host", () => ones.write([1, 1, 1, 1])],
  ["capture", () => device.stream.capture(() => {})],
  ["replay", () => device.stream.replay({ commands: [], dispose() {}, [Symbol.dispose]() {} })],
];

for (const [what, act] of forbidden) {
  Deno.test(`Stream.capture() refuses to ${what} inside, and leaves the device in order`, async () => {
    const { bytesInUse } = device.pool.stats;
    const capture = () =>
      device.stream.capture(() => {
        using _ = axpb(1, ones, ones);
        act();
      });
    assertThrows(capture, ValueError, `Cannot ${what} as a capture must hold recorded GPU work only`);
    assertEquals(device.pool.stats.bytesInUse, bytesInUse);
    using y = axpb(1, ones, ones);
    assertEquals([...await y.read()], [2, 2, 2, 2]);
  });
}

Deno.test("Stream.capture() refuses to read inside", async () => {
  let read: Promise<unknown> | undefined;
  device.stream.capture(() => read = ones.read()).dispose();
  await assertRejects(() => read!, ValueError, "Cannot read to the host");
});

Deno.test("Stream.read() keeps no more staging memory than it should", async () => {
  const created: GPUBuffer[] = [];
  const make = device.gpu.createBuffer.bind(device.gpu);
  const spy: Device["gpu"]["createBuffer"] = (descriptor) => {
    const buffer = make(descriptor);
    if (descriptor.label === "staging") created.push(buffer);
    return buffer;
  };
  device.gpu.createBuffer = spy;
  try {
    using t = empty(device, [10_000]);
    for (let n = 9000; n < 9020; n++) await device.stream.read(t.buffer.gpu, 0, 4 * n);
    assertEquals(created.length, 1); // all of one size class
  } finally {
    device.gpu.createBuffer = make;
  }
});
