/**
 * CPU time of a cold compile of every attention kernel that is chosen for a head size, dtype, bias and length: the least of
 * several, each on a fresh device. Mesa's cache has to be off:
 *
 *     MESA_SHADER_CACHE_DISABLE=true deno run -A bench/attention_compile.ts [--only TEXT] [--rounds 3] [--plain]
 *
 * `--plain` leaves subgroups out; `--only` is a part of a kernel's key or of its case.
 */
import process from "node:process";
import { type Device, type KernelVariant, openDevice } from "../src/gpu/mod.ts";
import { attention, kvLayout } from "../src/ops/attention.ts";
import { type Dtype, empty, tensor, tidy } from "../src/tensor/mod.ts";
import { flagValue } from "./flags.ts";

/** What a kernel is chosen for. */
interface Case {
  /** Length of a head. */
  Dh: number;
  dtype: Dtype;
  bias: boolean;
  /** New tokens. */
  tokens: number;
  /** Query heads and key heads. */
  heads: readonly [number, number];
}

const LIMIT = 1700; // ms
const HEAD_DIMS = [16, 32, 40, 64, 72, 80, 96, 112, 128, 256], KEYS = 4096;
const SHAPES = [[1024, [16, 16]], [1, [16, 16]], [1, [16, 4]]] as const;

const cases: Case[] = HEAD_DIMS.flatMap((Dh) =>
  (["float16", "float32"] as const).flatMap((dtype) =>
    [false, true].flatMap((bias) => SHAPES.map(([tokens, heads]) => ({ Dh, dtype, bias, tokens, heads })))
  )
);

/** The kernels that a case runs. */
function kernelsOf(device: Device, { Dh, dtype, bias, tokens, heads: [H, Hkv] }: Case): KernelVariant[] {
  return device.kernels.collect(() =>
    tidy(device, () => {
      const q = empty(device, [tokens, H, Dh]), k = empty(device, [1, Hkv, KEYS, Dh], dtype);
      const strides = { sequenceStride: Hkv * KEYS * Dh, headStride: KEYS * Dh, keyStride: Dh };
      const geometry = kvLayout(device, { heads: H, kvHeads: Hkv, ...strides, scale: 1, causal: true });
      const starts = tensor(device, [0, tokens], [2], "uint32"), past = tensor(device, [0], [1], "uint32");
      attention(q, { k, v: k, geometry, past }, starts, { bias: bias ? empty(device, [1]) : undefined });
    })
  );
}

const nameOf = ({ Dh, dtype, bias, tokens, heads }: Case) =>
  `D ${Dh} ${dtype}${bias ? " bias" : ""} ${tokens > 1 ? "prefill" : "decode"} ${heads.join("/")}`;

if (import.meta.main) {
  const features = Deno.args.includes("--plain") ? { subgroups: false } : {};
  const only = flagValue("--only") ?? "", rounds = Number(flagValue("--rounds") ?? 3);
  const variants = new Map<string, { variant: KernelVariant; name: string; best: number }>();
  {
    await using device = await openDevice({ features });
    for (const c of cases) {
      for (const variant of kernelsOf(device, c)) {
        const name = nameOf(c), known = variants.has(variant.key);
        if (!known && `${name} ${variant.key}`.includes(only)) {
          variants.set(variant.key, { variant, name, best: Infinity });
        }
      }
    }
  }
  for (let round = 0; round < rounds; round++) {
    await using device = await openDevice({ features });
    for (const found of variants.values()) {
      const usage = process.cpuUsage();
      await device.kernels.compile([found.variant]);
      await device.synchronize();
      const { user, system } = process.cpuUsage(usage);
      found.best = Math.min(found.best, (user + system) / 1000);
    }
  }
  const sorted = [...variants.values()].sort((a, b) => b.best - a.best);
  for (const { variant, name, best } of sorted) {
    console.log(`${best.toFixed(0).padStart(6)} ms${best > LIMIT ? " !" : "  "} ${name.padEnd(36)} ${variant.key}`);
  }
  console.log(`${sorted.filter(({ best }) => best > LIMIT).length} of ${sorted.length} above ${LIMIT} ms`);
}
