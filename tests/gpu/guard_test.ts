import {
  assert,
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { DeviceLostError, GpuError, LimitError, OutOfMemoryError } from "../../src/errors.ts";
import { Guard } from "../../src/gpu/guard.ts";
import { StubGpu } from "./stub_gpu.ts";

const TIMEOUT = 80; // ms

function stub(): { stub: StubGpu; guard: Guard } {
  const stub = new StubGpu();
  return { stub, guard: new Guard(stub.gpu, TIMEOUT) };
}

const validation = (text: string) => Promise.resolve(new GPUValidationError(text));
const nothing = () => Promise.resolve(null);
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

Deno.test("Guard.check() gives the first error, and everything after it the same", async () => {
  const { stub: gpu, guard } = stub();
  await guard.check();
  gpu.pops = [nothing(), nothing(), validation("buffer is invalid")]; // innermost first: the validation scope is last
  const error = await assertRejects(() => guard.check(), GpuError, "the GPU reported an error: buffer is invalid");
  gpu.pops = [nothing(), nothing(), validation("another one")];
  assertStrictEquals(await assertRejects(() => guard.check()), error);
  assertStrictEquals(assertThrows(() => guard.call("try", () => 1)), error);
  assertStrictEquals(assertThrows(() => guard.throwIfFailed()), error);
  assertStrictEquals(await assertRejects(() => guard.race(Promise.resolve(1), "a read")), error);
  assertStrictEquals(guard.error, error);
});

Deno.test("Guard.check() names exhausted memory before the validation errors that follow from it", async () => {
  const { stub: gpu, guard } = stub();
  guard.describeMemory = () => "5 KiB in use, the last allocation asked for 2 KiB for logits";
  gpu.pops = [nothing(), Promise.resolve(new GPUOutOfMemoryError("")), validation("buffer is invalid")];
  await assertRejects(() => guard.check(), OutOfMemoryError, "the last allocation asked for 2 KiB for logits");
});

Deno.test("Guard.check() waits for compilations, whose error is the better one", async () => {
  const { stub: gpu, guard } = stub();
  guard.track(
    sleep(5).then(() => {
      throw new GpuError("Cannot compile the kernel x");
    }),
  );
  gpu.pops = [nothing(), nothing(), validation("pipeline is invalid")];
  await assertRejects(() => guard.check(), GpuError, "Cannot compile the kernel x");
});

Deno.test("Guard.check() does not pass while an earlier one is undecided", async () => {
  const { stub: gpu, guard } = stub();
  gpu.pops = [nothing(), nothing(), sleep(10).then(() => new GPUValidationError("late"))];
  const early = guard.check(), late = guard.check();
  await assertRejects(() => late, GpuError, "late");
  await assertRejects(() => early, GpuError, "late");
});

Deno.test("Guard.call() makes what a WebGPU call throws the device's failure, but not our own errors", () => {
  const { guard } = stub();
  const own = new LimitError("Cannot bind");
  assertStrictEquals(
    assertThrows(() =>
      guard.call("bind", () => {
        throw own;
      })
    ),
    own,
  );
  guard.throwIfFailed();
  const error = assertThrows(() => guard.call("allocate 1 KiB", () => fail(new TypeError("bad size"))), GpuError);
  assertEquals(error.message, "Cannot allocate 1 KiB as the GPU call failed: bad size");
  assertStrictEquals(guard.error, error);
});

function fail(error: Error): never {
  throw error;
}

Deno.test("Guard.race() takes no answer for a hang, and an answer for a sign of life", async () => {
  const { guard } = stub();
  const start = performance.now();
  const slow = guard.race(sleep(2.5 * TIMEOUT).then(() => "slow"), "a slow read");
  for (let i = 0; i < 4; i++) await guard.race(sleep(TIMEOUT / 2), "a quick read"); // keeps the watchdog quiet
  assertEquals(await slow, "slow");
  assert(performance.now() - start >= 2.5 * TIMEOUT - 1);
  const reads = [guard.race(new Promise(() => {}), "a read"), guard.race(new Promise(() => {}), "another read")];
  const error = await assertRejects(() => reads[1]!, DeviceLostError, `a read gave no answer for ${TIMEOUT} ms`);
  assertStringIncludes(error.hint!, "gpuTimeout");
  assertStrictEquals(await assertRejects(() => reads[0]!), error);
});

Deno.test("Guard.race() does not count the time that the event loop was blocked", async () => {
  const { guard } = stub();
  const read = guard.race(sleep(2 * TIMEOUT + 10).then(() => "done"), "a read");
  const until = performance.now() + 2 * TIMEOUT;
  while (performance.now() < until); // as Deno's mapAsync does while the GPU works
  assertEquals(await read, "done");
});

Deno.test("Guard tells a loss as one, also when its consequences come first", async () => {
  const { stub: gpu, guard } = stub();
  const pending = guard.race(new Promise(() => {}), "a read");
  const failed = guard.race(Promise.reject(new DOMException("validation error occurred")), "another read");
  setTimeout(() => gpu.lose("the driver crashed"), 5);
  const error = await assertRejects(() => failed, DeviceLostError, "it was lost: the driver crashed");
  assertStrictEquals(await assertRejects(() => pending), error);
});

Deno.test("Guard takes over errors that no scope caught", () => {
  const { stub: gpu, guard } = stub();
  const event = gpu.uncaptured(new GPUValidationError("stray"));
  assert(event.defaultPrevented, "it is not printed as well");
  assertThrows(() => guard.throwIfFailed(), GpuError, "stray");
});

Deno.test("Guard.close() fails what waits, and leaves a device that lives on as it was", async () => {
  const { stub: gpu, guard } = stub();
  assertEquals(gpu.depth, 3);
  const pending = guard.race(new Promise(() => {}), "a read");
  guard.close(true);
  await assertRejects(() => pending, DeviceLostError, "it was closed");
  assertEquals(gpu.depth, 0);
  assert(!gpu.uncaptured(new GPUValidationError("not ours")).defaultPrevented);
});
