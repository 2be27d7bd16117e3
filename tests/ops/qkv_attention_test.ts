import { assertEquals } from "@std/assert";
import type { Device } from "../../src/gpu/mod.ts";
import { attention, type KvLayout, kvLayout } from "../../src/ops/attention.ts";
import { qkvAttention } from "../../src/ops/qkv_attention.ts";
import { type PackedProjection, qkvRopeStore } from "../../src/ops/qkv_rope.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { randn, testDevice } from "../helpers.ts";

const subgroups = await testDevice(), plain = await testDevice({ features: { subgroups: false } });
const narrow = await testDevice({ features: { shaderInt64: false } });
const gpu: Device = Object.create(subgroups, { isCpu: { value: false } }); // chooses the kernels that GPUs get

interface Case {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Rotated pairs; 0 for no table. */
  half: number;
  dtype: "float32" | "float16";
  past: readonly number[];
  layout?: Partial<KvLayout>;
  paged?: boolean;
  norm?: boolean;
  interleaved?: boolean;
  /** Whether every sequence is said to have one token. Default true. */
  single?: boolean;
  /** Whether one kernel less does it. Default true. */
  fused?: boolean;
}

const llama: Case = { heads: 8, kvHeads: 4, headDim: 64, half: 32, dtype: "float16", past: [7] };
const cases: Record<string, Case> = {
  "grouped heads": llama,
  "an empty cache": { ...llama, past: [0] },
  "several sequences": { ...llama, past: [0, 9, 40] },
  "float32, partly rotated": { ...llama, dtype: "float32", half: 8 },
  "nothing rotated": { ...llama, half: 0, headDim: 16, kvHeads: 8 },
  "one head of keys": { ...llama, heads: 7, kvHeads: 1, headDim: 32, half: 16 },
  "a window": { ...llama, past: [50], layout: { window: 8 } },
  "a soft cap": { ...llama, layout: { softcap: 3 } },
  "keys in parts": { ...llama, heads: 4, kvHeads: 2, past: [4096] },
  "pages": { ...llama, past: [64, 63], paged: true },
  "heads with norms": { ...llama, norm: true, fused: false },
  "pairs side by side": { ...llama, interleaved: true, fused: false },
  "pairs that are no fours": { ...llama, half: 6, fused: false },
  "more heads than a tile has": { ...llama, heads: 32, kvHeads: 1, fused: false },
  "as many tokens as sequences, not one each": { ...llama, single: false, fused: false },
};
const PAGES = [5, 0, /* of the second: */ 1, 3];

/** The kernels that `run` takes, and what it gives. */
function counted<T>(device: Device, run: () => T): { kernels: number; result: T } {
  let kernels = 0;
  const { record } = device.stream;
  device.stream.record = function (command) {
    if (command.kind === "dispatch") kernels++;
    record.call(this, command);
  };
  try {
    return { result: run(), kernels };
  } finally {
    device.stream.record = record;
  }
}

for (const [on, device] of Object.entries({ subgroups, plain, "32-bit loads": narrow, "a GPU's kernels": gpu })) {
  for (const [name, c] of Object.entries(cases)) {
    Deno.test(`qkvAttention() is qkvRopeStore() and attention(): ${name}, ${on}`, async () => {
      const { heads, kvHeads, headDim, half, dtype, past, paged, norm, interleaved, single = true, fused = true } = c;
      const B = past.length, capacity = paged ? 64 * 6 : Math.max(...past) + 3;
      const shape = [paged ? 1 : B, kvHeads, capacity, headDim], size = shape.reduce((product, n) => product * n, 1);
      const numbers = {
        qkv: randn(B * (heads + 2 * kvHeads) * headDim),
        table: randn((capacity + 1) * 2 * half, 2),
        k: randn(size, 3),
        v: randn(size, 4),
        norm: randn(headDim, 5),
      };
      const run = (fused: boolean) =>
        tidy(device, () => {
          const weight = norm ? tensor(device, numbers.norm, [headDim]) : undefined;
          const projection: PackedProjection = {
            ...{ heads, kvHeads, headDim, interleaved, qNorm: weight, kNorm: weight },
            qkv: tensor(device, numbers.qkv, [B, numbers.qkv.length / B]),
            table: half ? tensor(device, numbers.table, [capacity + 1, 2, half]) : undefined,
            positions: tensor(device, past, [B], "uint32"),
          };
          const counts = paged ? [...past, ...past.map(() => 0), ...PAGES] : past;
          const kv = {
            k: tensor(device, numbers.k, shape, dtype),
            v: tensor(device, numbers.v, shape, dtype),
            past: tensor(device, counts, [counts.length], "uint32"),
            paged,
            geometry: kvLayout(device, {
              ...{ heads, kvHeads, scale: 0.125, causal: true, counts: "past", ...c.layout },
              sequenceStride: paged ? 64 * headDim : kvHeads * capacity * headDim,
              headStride: capacity * headDim,
              keyStride: headDim,
            }),
          };
          const starts = tensor(device, Array.from({ length: B + 1 }, (_, i) => i), [B + 1], "uint32");
          const { qkv, table, positions } = projection;
          const { kernels, result: o } = counted(device, () => {
            if (fused) return qkvAttention(projection, kv, starts, { single });
            return attention(qkvRopeStore(qkv, table, positions, projection, kv, starts), kv, starts);
          });
          return { o, k: kv.k, v: kv.v, kernels };
        });
      const one = run(true), two = run(false);
      assertEquals(two.kernels - one.kernels, fused ? 1 : 0);
      for (const part of ["o", "k", "v"] as const) {
        assertEquals(await one[part].read(), await two[part].read(), part);
        one[part].dispose();
        two[part].dispose();
      }
    });
  }
}
