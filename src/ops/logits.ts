import type { Device } from "../gpu/mod.ts";
import { expectDtype, expectShape, type Tensor } from "../tensor/mod.ts";

/** Stands for -infinity among logits on the GPU; what is at or below it is never chosen. */
export const NEG: number = Math.fround(-1e30);

const BLOCK = 512;

/** The tokens of each row so far, on the GPU. */
export interface TokenHistory {
  /** [B, N] uint32. */
  ids: Tensor;
  /** [B] uint32: how many of each row are there. */
  lengths: Tensor;
}

/** Checks scores [B, V] float32; returns B and V. */
export function expectScores(op: string, x: Tensor, name = "x"): readonly [rows: number, vocab: number] {
  const [rows = 0, vocab = 0] = expectShape(op, name, x, ["B", "V"]);
  expectDtype(op, name, x, "float32");
  return [rows, vocab];
}

/** Checks a history of `rows` rows. */
export function expectHistory(op: string, { ids, lengths }: TokenHistory, rows: number | string): void {
  expectShape(op, "ids", ids, [rows, "N"]);
  expectShape(op, "lengths", lengths, [rows]);
  expectDtype(op, "ids", ids, "uint32");
  expectDtype(op, "lengths", lengths, "uint32");
}

/** Checks that settings are a vector of `dtype`. */
export function expectSettings(op: string, t: Record<string, Tensor>, dtype: "uint32" | "float32"): void {
  for (const [name, value] of Object.entries(t)) {
    expectShape(op, name, value, ["n"]);
    expectDtype(op, name, value, dtype);
  }
}

/** Workgroups for kernels that see logits one by one. */
export function blocksOf(x: Tensor): readonly [number] {
  return [Math.ceil(x.size / BLOCK)];
}

/** The variant of kernels that give a workgroup to each row: a CPU pays for each thread at a barrier. */
export function rowThreads({ isCpu }: Device, vocab: number): { WG: number } {
  return { WG: isCpu ? 8 : vocab < 1024 ? 64 : 256 };
}
