import { assert, assertEquals, assertStrictEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { OutOfMemoryError } from "../../src/errors.ts";
import { Guard } from "../../src/gpu/guard.ts";
import { BufferPool, formatBytes, type PoolBuffer, sizeClass } from "../../src/gpu/pool.ts";
import { StubGpu } from "./stub_gpu.ts";

function pool(budget = Infinity, maxBufferSize = 2 ** 30): { gpu: StubGpu; pool: BufferPool } {
  const gpu = new StubGpu(maxBufferSize);
  return { gpu, pool: new BufferPool(gpu.gpu, new Guard(gpu.gpu, 1000), budget) };
}

const sizes = [
  // asked, given
  [0, 256],
  [1, 256],
  [256, 256],
  [257, 320],
  [320, 320],
  [321, 384],
  [512, 512],
  [1000, 1024],
  [1025, 1280],
  [2 ** 20 + 1, 1.25 * 2 ** 20],
  [1.75 * 2 ** 31, 1.75 * 2 ** 31],
] as const;

for (const [asked, given] of sizes) {
  Deno.test(`sizeClass(${asked}) is ${given}`, () => assertEquals(sizeClass(asked), given));
}

Deno.test("sizeClass() holds what is asked, wastes a quarter at most, and is a multiple of 16", () => {
  fc.assert(fc.property(fc.integer({ min: 257, max: 2 ** 31 }), (bytes) => {
    const size = sizeClass(bytes);
    assert(size >= bytes && size <= 1.25 * bytes && size % 16 === 0, `${size}`);
    assertEquals(sizeClass(size), size);
  }));
});

Deno.test("formatBytes() is short", () => {
  assertEquals([0, 1023, 1536, 2 ** 20, 1.234 * 2 ** 30].map(formatBytes), [
    "0 B",
    "1023 B",
    "1.50 KiB",
    "1 MiB",
    "1.23 GiB",
  ]);
});

Deno.test("BufferPool counts bytes in use, cached and peak, and recycles by size class", () => {
  const { pool: p, gpu } = pool();
  const a = p.acquire(300, "a"), b = p.acquire(1000, "b");
  assertEquals(p.stats, { bytesInUse: 1344, bytesCached: 0, peakBytes: 1344, buffersInUse: 2, created: 2 });
  p.release(a);
  p.release(a); // twice is once
  assertEquals(p.stats, { bytesInUse: 1024, bytesCached: 320, peakBytes: 1344, buffersInUse: 1, created: 2 });
  assertStrictEquals(p.acquire(310, "c"), a);
  p.release(b);
  p.resetPeak();
  assertEquals(p.stats, { bytesInUse: 320, bytesCached: 1024, peakBytes: 320, buffersInUse: 1, created: 2 });
  p.trim();
  assertEquals(p.stats.bytesCached, 0);
  assertEquals(gpu.buffers.map((buffer) => buffer.destroyed), [false, true]);
  p.destroy();
  p.release(a); // too late to matter
  assertEquals(p.stats, { bytesInUse: 0, bytesCached: 0, peakBytes: 320, buffersInUse: 0, created: 2 });
});

Deno.test("BufferPool.acquire() exact rounds to 16 bytes only", () => {
  const { pool: p } = pool();
  assertEquals([1, 16, 17, 1025].map((bytes) => p.acquire(bytes, "w", true).size), [16, 16, 32, 1040]);
});

Deno.test("BufferPool.acquire() refuses over the budget, naming what was asked, what is in use and the budget", () => {
  const { pool: p, gpu } = pool(2048);
  const a = p.acquire(1024, "weights"), b = p.acquire(512, "scores");
  const error = assertThrows(() => p.acquire(600, "a tensor [150]"), OutOfMemoryError);
  assertEquals(
    error.message,
    "Cannot allocate GPU memory for a tensor [150] as the memory budget is 2 KiB: " +
      "tried to allocate 640 B, 1.50 KiB in use",
  );
  assertStringIncludes(error.hint!, "memoryBudget");
  p.release(b); // what is cached gives way
  assertEquals(p.acquire(600, "a tensor [150]").size, 640);
  assertEquals(gpu.buffers.map((buffer) => buffer.destroyed), [false, true, false]);
  assertEquals(a.size + 640, p.stats.bytesInUse);
});

Deno.test("BufferPool.acquire() refuses more than a buffer of the device holds, and nothing less", () => {
  const { pool: p } = pool(Infinity, 1200);
  assertEquals(p.acquire(1100, "rounded less, as the class of 1280 is too large").size, 1104);
  assertThrows(() => p.acquire(1201, "logits"), OutOfMemoryError, "a buffer of the device holds at most 1.17 KiB");
});

Deno.test("BufferPool does not let sizes pile up that never come again", () => {
  const { pool: p } = pool();
  for (let i = 1; i <= 400; i++) p.release(p.acquire(i * 2 ** 20, "a prompt", true));
  const { bytesCached, peakBytes } = p.stats;
  assert(bytesCached <= 1.5 * peakBytes + 64 * 2 ** 20, formatBytes(bytesCached));
});

Deno.test("BufferPool submits recorded work before it destroys buffers", () => {
  const { pool: p, gpu } = pool();
  p.beforeDestroy = () => assert(!gpu.buffers[0]!.destroyed);
  p.release(p.acquire(1, "a"));
  p.trim();
  assert(gpu.buffers[0]!.destroyed);
});

Deno.test("BufferPool.withArena() keeps its buffers from everybody else until reclaim()", () => {
  const { pool: p } = pool();
  const free = p.acquire(256, "before");
  p.release(free);
  let held!: PoolBuffer;
  const arena = p.withArena(() => {
    const a = p.acquire(256, "a");
    assertStrictEquals(a, free); // what is free may enter
    p.release(a);
    assertStrictEquals(p.acquire(256, "b"), a); // and is used again inside
    held = p.acquire(256, "c");
    p.release(a);
  });
  assertEquals(p.stats.bytesInUse, 512);
  const other = p.acquire(256, "other");
  assert(other !== free && other !== held);
  p.release(held); // released later, it still belongs to the recording
  p.release(held);
  const third = p.acquire(256, "third");
  assert(third !== held);
  assertEquals(p.stats.bytesInUse, 1024);
  p.reclaim(arena);
  p.reclaim(arena);
  assertEquals(p.stats, { bytesInUse: 512, bytesCached: 512, peakBytes: 1024, buffersInUse: 2, created: 4 });
  assertEquals(new Set([p.acquire(256, "x"), p.acquire(256, "y")]), new Set([free, held]));
});

Deno.test("BufferPool.withArena() keeps what is released inside, whoever acquired it", () => {
  const { pool: p } = pool();
  const input = p.acquire(256, "input");
  const arena = p.withArena(() => p.release(input));
  assert(p.acquire(256, "other") !== input);
  p.reclaim(arena);
  assertStrictEquals(p.acquire(256, "later"), input);
});

Deno.test("BufferPool.reclaim() lets a buffer that is still held go back when it is released", () => {
  const { pool: p } = pool();
  let held!: PoolBuffer;
  const arena = p.withArena(() => held = p.acquire(256, "result"));
  p.reclaim(arena);
  assertEquals(p.stats.bytesInUse, 256);
  p.release(held);
  assertStrictEquals(p.acquire(256, "next"), held);
});

Deno.test("BufferPool.withArena() gives everything back if its function throws", () => {
  const { pool: p } = pool(512);
  assertThrows(() =>
    p.withArena(() => {
      p.release(p.acquire(256, "a"));
      p.acquire(2 ** 20, "too large");
    }), OutOfMemoryError);
  assertEquals(p.stats.bytesInUse, 0);
  assertEquals(p.acquire(512, "all of it").size, 512);
});
