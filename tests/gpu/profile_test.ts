import { assert, assertAlmostEquals, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { DeviceLostError, NotSupportedError, ValueError } from "../../src/errors.ts";
import { kernel, openDevice, startProfile } from "../../src/gpu/mod.ts";
import { chromeTrace, kernelTable, tableText } from "../../src/gpu/trace.ts";
import { empty, type Tensor, tensor } from "../../src/tensor/mod.ts";
import { providers } from "./providers.ts";

interface TraceEvent {
  name: string;
  ph: string;
  pid: number;
  tid: number;
  ts: number;
  dur: number;
  args: { submit: number; dispatches: number; grid: number[]; name: string };
}

const launch = kernel(
  "test_scale",
  `override A: f32 = 1.0;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < arrayLength(&y)) {
    y[id.x] = A * x[id.x];
  }
}`,
);

function scale(x: Tensor, A: number): Tensor {
  const y = empty(x.device, x.shape);
  launch(x.device, { overrides: { A }, bindings: { x, y }, grid: [Math.ceil(x.size / 64)] });
  return y;
}

const grid = [1, 1, 1] as const;
const events = [
  { name: "matmul", grid, submit: 0, start: 0, duration: 300 },
  { name: "rms_norm", grid, submit: 0, start: 300, duration: 100 },
  { name: "matmul", grid, submit: 1, start: 5000, duration: 600 },
];

Deno.test("kernelTable() sums up by kernel, the costliest first", () => {
  const table = kernelTable(events);
  assertEquals(table, [
    { name: "matmul", calls: 2, totalMs: 0.9, meanUs: 450, share: 0.9 },
    { name: "rms_norm", calls: 1, totalMs: 0.1, meanUs: 100, share: 0.1 },
  ]);
  assertEquals(tableText(table).split("\n"), [
    "kernel    calls  total ms  mean µs   share",
    "matmul        2     0.900    450.0  90.0 %",
    "rms_norm      1     0.100    100.0  10.0 %",
  ]);
  assertEquals(kernelTable([]), []);
  assertEquals(kernelTable([{ ...events[0]!, duration: 0 }])[0]!.share, 0);
});

Deno.test("chromeTrace() puts kernels and submits on two tracks, and no kernel before its submit", () => {
  const trace = JSON.parse(chromeTrace(events, [
    { start: 100, end: 100.5, dispatches: 2 },
    { start: 104, end: 106.25, dispatches: 1 },
  ]));
  const tracks = trace.traceEvents.filter((e: TraceEvent) => e.name === "thread_name");
  assertEquals(tracks.map((e: TraceEvent) => [e.tid, e.args.name]), [[1, "GPU kernels"], [2, "host submits"]]);
  const spans = trace.traceEvents.filter((e: TraceEvent) => e.ph === "X");
  assertEquals(spans.map((e: TraceEvent) => [e.tid, e.name, e.ts, e.dur]), [
    [1, "matmul", 1250, 300],
    [1, "rms_norm", 1550, 100],
    [1, "matmul", 6250, 600], // its submit returned 6.25 ms after the first began
    [2, "submit", 0, 500],
    [2, "submit", 4000, 2250],
  ]);
  assertEquals(JSON.parse(chromeTrace([], [])).traceEvents.length, 3);
});

for (const provider of providers) {
  Deno.test(`startProfile() times every kernel on ${provider}, and changes no result`, async () => {
    await using device = await openDevice({ provider });
    using x = tensor(device, new Float32Array(64 * 512).fill(2), [64, 512]);
    scale(x, 2).dispose();
    const profiler = startProfile(device);
    assertThrows(() => startProfile(device), ValueError, "one is running");
    const start = performance.now();
    for (let i = 0; i < 3; i++) {
      using y = scale(x, 3);
      assertEquals((await y.read())[0], 6);
    }
    scale(x.rows(0, 1), 4).dispose(); // recorded, and not yet submitted
    const profile = await profiler.stop();
    const elapsed = performance.now() - start;
    scale(x, 2).dispose(); // not measured any more
    await device.synchronize();

    assertEquals(profile.kernels.map(({ name, calls }) => [name, calls]).sort(), [
      ["test_scale A=3", 3],
      ["test_scale A=4", 1],
    ]);
    assert(profile.gpuMs > 0 && profile.gpuMs <= elapsed, `${profile.gpuMs} of ${elapsed} ms`);
    for (const { meanUs } of profile.kernels) assert(meanUs > 0, "every kernel takes time");
    assertAlmostEquals(profile.kernels.reduce((sum, { share }) => sum + share, 0), 1);
    assertMatch(`${profile}`, /^kernel +calls +total ms +mean µs +share\n(.*\n)?test_scale A=3 +3 /);

    const all: TraceEvent[] = JSON.parse(profile.chromeTrace()).traceEvents;
    const kernels = all.filter(({ ph, tid }) => ph === "X" && tid === 1);
    const submits = all.filter(({ ph, tid }) => ph === "X" && tid === 2);
    assertEquals(kernels.map(({ args }) => args.grid), [[512, 1, 1], [512, 1, 1], [512, 1, 1], [8, 1, 1]]);
    assertEquals(submits.reduce((sum, { args }) => sum + args.dispatches, 0), 4);
    for (const { ts, args } of kernels) assert(ts >= submits[args.submit]!.ts, "no kernel before its submit");
  });

  Deno.test(`startProfile() holds more dispatches than a query set on ${provider}, in one replay too`, async () => {
    await using device = await openDevice({ provider });
    using x = tensor(device, [1, 2], [2]);
    using recording = device.stream.capture(() => {
      for (let i = 0; i < 2100; i++) scale(x, i % 2).dispose();
    });
    const profiler = startProfile(device);
    device.stream.replay(recording);
    const { kernels } = await profiler.stop();
    assertEquals(kernels.map(({ name, calls }) => [name, calls]).sort(), [
      ["test_scale A=0", 1050],
      ["test_scale A=1", 1050],
    ]);
    for (const { totalMs } of kernels) assert(totalMs > 0);
  });
}

Deno.test("startProfile() of nothing is an empty table", async () => {
  await using device = await openDevice();
  const profile = await startProfile(device).stop();
  assertEquals([profile.kernels, profile.gpuMs], [[], 0]);
  assertEquals(`${profile}`, "kernel  calls  total ms  mean µs  share");
});

Deno.test("startProfile() refuses a device without timestamp queries", async () => {
  await using device = await openDevice({ features: { timestampQuery: false } });
  assertThrows(() => startProfile(device), NotSupportedError, "must have timestamp queries");
});

Deno.test("Profiler.stop() tells a lost device as such", async () => {
  await using device = await openDevice();
  const profiler = startProfile(device);
  scale(tensor(device, [1, 2], [2]), 1).dispose();
  device.gpu.destroy();
  await assertRejects(() => profiler.stop(), DeviceLostError);
});
