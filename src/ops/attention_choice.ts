/**
 * Which attention kernel runs, in which shape, and why.
 *
 * @module
 */
import { type AttentionTraits, chooseBackend } from "./sdpa_choice.ts";
import type { AttentionBackend } from "./sdpa_kernel.ts";

export type { AttentionBackend, AttentionTraits };

/** What the choice depends on. */
export interface AttentionCase extends AttentionTraits {
  /** T: queries of all sequences. */
  tokens: number;
  /** B. */
  sequences: number;
  /** Query heads. */
  heads: number;
  /** Key heads. */
  kvHeads: number;
  /** Keys that a sequence may have. */
  keys: number;
  /** Whether scores may be capped. */
  softcap?: boolean;
  /** Threads of every subgroup; 0 where there are no subgroups, or they vary. */
  subgroup: number;
  /** Whether the device is a program on the CPU. */
  cpu: boolean;
  /** The kernels that may run. Default: all. */
  enabled?: readonly AttentionBackend[];
}

/** What was chosen. */
export interface AttentionChoice {
  /** The kernel. */
  kernel: AttentionBackend;
  /** How its workgroups work together. */
  body: "subgroup" | "workgroup" | "rows" | "matrix";
  /** Queries that a workgroup holds. */
  rows: number;
  /** Heads of one token among them, which read the same keys. */
  pack: number;
  /** Keys that a thread holds at a time. */
  keysPerLane: number;
  /** Workgroups that share the keys of a query; above 1 their results are merged. */
  splits: number;
  /** The reason, for people. */
  why: string;
}

/**
 * The kernel for a case: pure, so that it can be printed before anything runs.
 *
 * @throws {RuntimeError} if no kernel that may run can do it: it says why each cannot
 *
 * @example
 * ```ts
 * import { chooseAttention } from "@tensaur/tensaur/ops";
 * const decode = { dtype: "float16", headDim: 64, tokens: 1, sequences: 1, heads: 16, kvHeads: 4, keys: 4096 } as const;
 * const { kernel, pack } = chooseAttention({ ...decode, subgroup: 8, cpu: true });
 * console.log(kernel, pack); // "flash" 4
 * ```
 */
export function chooseAttention(c: AttentionCase): AttentionChoice {
  const { backend: kernel, why } = chooseBackend(c, c.enabled);
  if (kernel === "math") return { kernel, body: "matrix", rows: 1, pack: 1, keysPerLane: 1, splits: 1, why };
  const tile = tileOf(c);
  const threads = c.subgroup ? `subgroups of ${c.subgroup}` : "no subgroups of one size";
  const how = tile.pack > 1 ? `${tile.pack} heads read their keys once` : `${tile.rows} queries a tile`;
  const split = tile.splits > 1 ? `, keys in ${tile.splits} parts` : "";
  return { kernel, ...tile, why: `${why}; ${threads}; ${how}${split}` };
}

/** The shape of a tile: few queries a sequence are packed by heads, and their keys split until the device is busy. */
function tileOf(c: AttentionCase): Omit<AttentionChoice, "kernel" | "why"> {
  const group = c.heads / c.kvHeads, perSequence = c.tokens / Math.max(1, c.sequences);
  const longest = Math.max(c.headDim, c.valueDim ?? 0);
  const uneven = longest > 96 && longest % 32 > 0; // the last elements have code of their own
  const long = longest > 128 || uneven; // more would spill, and be slow to compile
  const body = c.subgroup >= 8 ? "subgroup" : "workgroup", onCpu = c.cpu && body === "subgroup";
  const wide = onCpu && perSequence >= 64 && !c.bias && longest <= 64; // a CPU spills cheaply
  const plain = c.cpu && c.subgroup < 8;
  const most = long || plain && longest > 96 ? (plain ? 2 : 4) : plain && longest > 64 ? 4 : wide ? 16 : 8;
  const pack = perSequence < most ? Math.min(group, most) : 1;
  const rows = perSequence <= 1 ? powerOfTwo(pack) : most;
  const tiles = Math.ceil(c.tokens / Math.max(1, Math.floor(rows / pack))) * c.kvHeads * Math.ceil(group / pack);
  const [busy, piece] = c.cpu ? [8, 1024] : [512, 256]; // workgroups that keep the device busy, keys worth a workgroup
  const splits = Math.max(1, Math.min(Math.ceil(busy / Math.max(1, tiles)), Math.floor(c.keys / piece), 64));
  if (plain && perSequence >= 16) {
    return { body: "rows", rows: 32, pack: 1, keysPerLane: 64, splits: 1 };
  }
  const much = (rows >= 8 && c.bias && longest > 48) || (rows > 8 && c.softcap); // code for each of a thread's scores
  const large = onCpu ? much : rows >= 8 || (c.cpu && longest > 64);
  const keysPerLane = long || large ? 1 : 2; // keys share the cost of a query, and are slow to compile
  return { body, rows, pack, keysPerLane, splits };
}

/** The least power of two that is `n` or more. */
export function powerOfTwo(n: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, n)));
}
