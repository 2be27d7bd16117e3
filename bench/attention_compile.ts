/**
 * CPU time of a cold compile of every attention kernel that is chosen for a head size, dtype, bias, soft cap, pages and
 * length; what is above the limit is compiled again, each time on a fresh device, and the least counts. Mesa's cache has
 * to be off:
 *
 *     MESA_SHADER_CACHE_DISABLE=true deno run -A bench/attention_compile.ts [--only TEXT] [--rounds 3] [--plain]
 *
 * `--plain` leaves subgroups out; `--only` is a part of a kernel's key or of its case.
 */
import process from "node:process";
import { type Device, type KernelVariant, openDevice } from "../src/gpu/mod.ts";
import { attention, kvLayout } from "../src/ops/attention.ts";
import { qkvAttention } from "../src/ops/qkv_attention.ts";
import { type Dtype, empty, tensor, tidy } from "../src/tensor/mod.ts";
import { flagValue } from "./flags.ts";

/** What a kernel is chosen for. */
interface Case {
  /** Length of a head. */
  Dh: number;
  dtype: Dtype;
  /** What else the kernel has to do. */
  also: "" | "bias" | "softcap" | "pages" | "softcap, pages";
  /** New tokens. */
  tokens: number;
  /** Query heads and key heads. */
  heads: readonly [number, number];
}

const LIMIT = 1700; // ms
const HEAD_DIMS = [16, 32, 40, 64, 72, 80, 96, 112, 128, 256], KEYS = 4096, PAGE = 64;
const SHAPES = [[1024, [16, 16]], [8, [16, 16]], [1, [16, 16]], [1, [16, 4]]] as const;

const cases: Case[] = HEAD_DIMS.flatMap((Dh) =>
  (["float16", "float32"] as const).flatMap((dtype) =>
    (["", "bias", "softcap", "pages", "softcap, pages"] as const).flatMap((also) =>
      SHAPES.map(([tokens, heads]) => ({ Dh, dtype, also, tokens, heads }))
    )
  )
);

/** The kernels that a case runs. */
function kernelsOf(device: Device, { Dh, dtype, also, tokens, heads: [H, Hkv] }: Case): KernelVariant[] {
  return device.kernels.collect(() =>
    tidy(device, () => {
      const paged = also.includes("pages"), pages = KEYS / PAGE;
      const q = empty(device, [tokens, H, Dh]);
      const k = empty(device, paged ? [pages, Hkv, PAGE, Dh] : [1, Hkv, KEYS, Dh], dtype);
      const rows = paged ? PAGE : KEYS;
      const geometry = kvLayout(device, {
        heads: H,
        kvHeads: Hkv,
        sequenceStride: Hkv * rows * Dh,
        headStride: rows * Dh,
        keyStride: Dh,
        scale: 1,
        causal: true,
        softcap: also.includes("softcap") ? 30 : undefined,
        bias: also === "bias" ? { strides: [0, 0, 0, 0], mask: false } : undefined,
      });
      const list = (x: number[]) => tensor(device, x, [x.length], "uint32");
      const past = list(paged ? [0, 0, ...Array(pages).keys()] : [0]);
      const bias = also === "bias" ? empty(device, [1]) : undefined;
      attention(q, { k, v: k, geometry, past, paged }, list([0, tokens]), { bias });
      if (tokens > 1 || bias) return;
      const projection = {
        heads: H,
        kvHeads: Hkv,
        headDim: Dh,
        positions: list([0]),
        table: empty(device, [1, 2, Dh / 2]),
      };
      const qkv = empty(device, [1, (H + 2 * Hkv) * Dh]), kept = empty(device, [1, Hkv, KEYS, Dh], dtype);
      qkvAttention({ ...projection, qkv }, { k: kept, v: kept, geometry, past, paged }, list([0, 1]), { single: true });
    })
  );
}

const nameOf = ({ Dh, dtype, also, tokens, heads }: Case) =>
  `D ${Dh} ${dtype} ${tokens > 1 ? "prefill" : "decode"} ${heads.join("/")}${also && `, ${also}`}`;

interface Found {
  variant: KernelVariant;
  /** Of the first case that runs it. */
  name: string;
  /** CPU milliseconds. */
  best: number;
}

const line = ({ variant, name, best }: Found) =>
  `${best.toFixed(0).padStart(6)} ms${best > LIMIT ? " !" : "  "} ${name.padEnd(48)} ${variant.key}`;

if (import.meta.main) {
  const features = Deno.args.includes("--plain") ? { subgroups: false } : {};
  const only = flagValue("--only") ?? "", rounds = Number(flagValue("--rounds") ?? 3);
  const variants = new Map<string, Found>();
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
    const open = [...variants.values()].filter(({ best }) => best > LIMIT);
    if (open.length > 0) console.error(`round ${round + 1}: ${open.length} kernels`);
    await using device = await openDevice({ features });
    for (const [i, found] of open.entries()) {
      const usage = process.cpuUsage();
      await device.kernels.compile([found.variant]);
      await device.synchronize();
      const { user, system } = process.cpuUsage(usage);
      found.best = Math.min(found.best, (user + system) / 1000);
      console.error(`${i + 1}/${open.length}  ${line(found)}`);
    }
  }
  const sorted = [...variants.values()].sort((a, b) => b.best - a.best);
  for (const found of sorted) console.log(line(found));
  console.log(`${sorted.filter(({ best }) => best > LIMIT).length} of ${sorted.length} above ${LIMIT} ms`);
}
