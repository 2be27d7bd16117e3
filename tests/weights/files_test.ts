import { assert, assertEquals, assertRejects } from "@std/assert";
import { ModelFormatError, ValueError } from "../../src/errors.ts";
import { openInside } from "../../src/weights/files.ts";
import { TemporaryFolder } from "./fixture.ts";

Deno.test("ModelFile.read() gives whole ranges or an error", async () => {
  using folder = new TemporaryFolder();
  const path = folder.write("x", Uint8Array.from({ length: 1000 }, (_, i) => i));
  using file = await openInside(folder.path, "x");
  assertEquals(file.size, 1000);
  assertEquals([...await file.read(998, 2)], [998 & 255, 999 & 255]);
  assertEquals((await file.read(1000, 0)).length, 0);
  const into = new Uint8Array(8).fill(9);
  const view = await file.read(1, 3, into);
  assertEquals([[...view], [...into]], [[1, 2, 3], [1, 2, 3, 9, 9, 9, 9, 9]]);
  assert(view.buffer === into.buffer);
  for (const [offset, length] of [[999, 2], [1001, 0], [0, 1001], [2 ** 53 - 1, 2 ** 53 - 1]] as const) {
    await assertRejects(() => file.read(offset, length), ModelFormatError, "its length is 1000");
  }
  for (const [offset, length] of [[-1, 1], [0, -1], [0.5, 1], [0, NaN], [2 ** 53, 1]] as const) {
    await assertRejects(() => file.read(offset, length), ValueError, "must be a whole number >= 0");
  }
  await assertRejects(() => file.read(0, 9, into), ValueError, "must hold 9 bytes: current length is 8");
  // The file shrinks after it was opened: no byte of the buffer may look like data.
  Deno.truncateSync(path, 500);
  into.fill(9);
  await assertRejects(() => file.read(496, 8, into), ModelFormatError, "must reach to 504: its length is 500");
  assertEquals([...into], Array(8).fill(0));
  assertEquals([...await file.read(499, 1)], [499 & 255]);
  file.close();
  file.close();
  await assertRejects(() => file.read(0, 1), ValueError, "must be open");
});

Deno.test("ModelFile.read() keeps concurrent reads apart", async () => {
  using folder = new TemporaryFolder();
  folder.write("x", Uint8Array.from({ length: 60_000 }, (_, i) => (i >> 8) ^ i));
  using file = await openInside(folder.path, "x");
  const reads = Array.from({ length: 100 }, async (_, i) => {
    const at = (i * 7919) % 59_000;
    const bytes = await file.read(at, 1000);
    assertEquals([...bytes], Array.from({ length: 1000 }, (_, k) => (((at + k) >> 8) ^ (at + k)) & 255));
  });
  await Promise.all(reads);
});
