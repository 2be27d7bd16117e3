/**
 * Files that appear whole or not at all.
 *
 * @module
 */
import { throwIfAborted } from "../errors.ts";

const writing = new Set<string>();

/**
 * Writes `parts` to a temporary file beside `path`, which takes that name when everything is on the disk; whatever fails
 * before removes it.
 */
export async function writeWhole(
  path: string,
  parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<void> {
  let temporary = `${path}.${Deno.pid}.incomplete`; // a name that the launcher foresees, and permits
  if (writing.has(temporary)) temporary = `${path}.${crypto.randomUUID().slice(0, 8)}.incomplete`;
  writing.add(temporary);
  try {
    await writeParts(temporary, parts, signal);
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  } finally {
    writing.delete(temporary);
  }
}

async function writeParts(path: string, parts: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, signal?: AbortSignal) {
  using file = await Deno.open(path, { write: true, createNew: true });
  for await (const part of parts) {
    throwIfAborted(signal, `writing ${path}`);
    for (let done = 0; done < part.length;) done += await file.write(part.subarray(done));
  }
  await file.sync();
}
