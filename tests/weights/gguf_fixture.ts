/** A small GGUF file for tests, and how it is damaged. */
import { type GgufTensorToSave, type TypedValue, writeGguf } from "../../src/weights/gguf_write.ts";
import { randn } from "../helpers.ts";

/** Its metadata. */
export const METADATA: [string, TypedValue][] = [
  ["general.architecture", { type: "string", value: "llama" }],
  ["llama.block_count", { type: "uint32", value: 3 }],
  ["llama.rope.freq_base", { type: "float32", value: 500000 }],
  ["tokenizer.ggml.add_bos_token", { type: "bool", value: true }],
  ["tokenizer.ggml.tokens", { type: "strings", value: ["a", "ä", "\u{1f600}", ""] }],
  ["tokenizer.ggml.token_type", { type: "int32s", value: [1, -1, 3, 6] }],
  ["tokenizer.ggml.scores", { type: "float32s", value: [0, -1.5, 2, 3] }],
];

/** All bytes at once. */
export async function* once(bytes: Uint8Array) {
  yield await Promise.resolve(bytes);
}

/** The bytes of tensor "m". */
export const matrix = new Uint8Array(randn(32, 1).buffer);
/** Its tensors. */
export const TENSORS: GgufTensorToSave[] = [
  { name: "m", type: "F32", shape: [8, 4], data: () => once(matrix) },
  { name: "q", type: "Q4_0", shape: [2, 64], data: () => once(new Uint8Array(72).fill(7)) },
  { name: "v", type: "F16", shape: [3], data: () => once(Uint8Array.of(0, 60, 0, 64, 0, 66)) },
];

/** The bytes of a file. */
export async function fileOf(metadata = METADATA, tensors = TENSORS): Promise<Uint8Array<ArrayBuffer>> {
  const dir = await Deno.makeTempDir();
  try {
    await writeGguf(`${dir}/x.gguf`, metadata, tensors);
    return await Deno.readFile(`${dir}/x.gguf`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** A copy of `bytes` with one to four places changed. */
export function mutated(bytes: Uint8Array<ArrayBuffer>, next: () => number): Uint8Array<ArrayBuffer> {
  const below = (n: number) => Math.floor(next() * n);
  let copy = bytes.slice();
  for (let i = below(4); i >= 0; i--) {
    const at = below(copy.length), kind = below(6);
    if (kind === 0) copy = copy.slice(0, at);
    else if (kind === 1) copy.copyWithin(at, below(copy.length), copy.length);
    else if (kind === 2) copy.fill(255, at, at + 1 + below(8));
    else if (kind === 3) copy.fill(0, at, at + 1 + below(8));
    else copy[at] = kind === 4 ? below(256) : (copy[at] ?? 0) ^ 1 << below(8);
  }
  return copy;
}
