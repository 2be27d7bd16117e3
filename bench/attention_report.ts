/**
 * How fast attention is, and what it keeps in memory meanwhile, over lengths, heads, windows and ragged batches.
 *
 * Figures are of CPU time on a device that is a program on the CPU (so "a core"), else of wall time. Cases that are compared
 * take turns in one process.
 *
 *     deno run -A bench/attention_report.ts [--quick] [--plain] [--only TEXT]
 *
 * `--quick` leaves out what takes long, `--plain` subgroups; `--only` is a part of the shapes' names, and leaves out the
 * other groups.
 */
import process from "node:process";
import { type Device, openDevice } from "../src/gpu/mod.ts";
import { attention, type AttentionBackend, kvLayout } from "../src/ops/attention.ts";
import { type Dtype, type Tensor, tensor, tidy } from "../src/tensor/mod.ts";
import { flagValue } from "./flags.ts";

/** One shape. */
export interface Shape {
  /** Queries of each sequence. */
  lengths: number[];
  /** Keys before them; in a cache. */
  past?: number;
  /** Query heads. */
  H: number;
  /** Key heads. */
  Hkv: number;
  /** Length of a head. */
  Dh: number;
  /** Keys that a query sees. */
  window?: number;
  /** Dtype of keys and values. */
  dtype?: Dtype;
  /** Which kernel. */
  backend?: AttentionBackend;
}

/** What was found. */
export interface Finding {
  /** Milliseconds a call. */
  milliseconds: number;
  /** Multiplications and additions that the causal mask leaves, over the time. */
  gigaflops: number;
  /** Queries, keys, values and results, each once, over the time. */
  gigabytes: number;
  /** Bytes that a call had beside its arguments and its result. */
  scratch: number;
}

/** A shape that can be run. */
interface Prepared extends Disposable {
  run(): void;
  flops: number;
  bytes: number;
  scratch: number;
  best: number;
}

/** Random numbers, as cheap as can be: the kernels do not care. */
function noise(device: Device, shape: number[], dtype: Dtype = "float32"): Tensor {
  const n = shape.reduce((a, b) => a * b, 1);
  return tensor(device, Float32Array.from({ length: n }, (_, i) => Math.sin(i * 12.9898) * 0.5), shape, dtype);
}

function prepare(device: Device, s: Shape): Prepared {
  const { lengths, past = 0, H, Hkv, Dh, window, dtype = "float16", backend } = s;
  const B = lengths.length, T = lengths.reduce((a, b) => a + b, 0), S = past + Math.max(...lengths);
  using made = new DisposableStack();
  const put = (t: Tensor) => made.use(t);
  const cached = past > 0 || B === 1;
  const q = put(noise(device, [T, H, Dh]));
  const k = put(noise(device, cached ? [B, Hkv, S, Dh] : [T, Hkv, Dh], dtype));
  const strides = cached
    ? { sequenceStride: Hkv * S * Dh, headStride: S * Dh, keyStride: Dh }
    : { sequenceStride: 0, headStride: Dh, keyStride: Hkv * Dh };
  const geometry = put(
    kvLayout(device, { heads: H, kvHeads: Hkv, ...strides, scale: Dh ** -0.5, causal: true, window }),
  );
  const starts = put(tensor(device, lengths.reduce((a, n) => [...a, a.at(-1)! + n], [0]), [B + 1], "uint32"));
  const before = cached ? put(tensor(device, lengths.map(() => past), [B], "uint32")) : undefined;
  let pairs = 0;
  for (const n of lengths) for (let i = past; i < past + n; i++) pairs += Math.min(i + 1, window ?? Infinity);
  const run = () => tidy(device, () => void attention(q, { k, v: k, geometry, past: before }, starts, { backend }));
  const owned = made.move();
  return {
    run,
    flops: 4 * pairs * H * Dh,
    bytes: 8 * T * H * Dh + 2 * k.byteLength,
    scratch: scratchOf(device, run),
    best: Infinity,
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** Bytes that `run` acquires after its result, which comes first. */
function scratchOf(device: Device, run: () => void): number {
  const sizes: number[] = [];
  const { pool } = device;
  const before = pool.onAcquire;
  pool.onAcquire = (buffer) => void sizes.push(buffer.size);
  run();
  pool.onAcquire = before;
  return sizes.slice(1).reduce((a, b) => a + b, 0);
}

/** Seconds of all threads on a CPU device, of the clock else. */
async function seconds(device: Device, fn: () => void): Promise<number> {
  await device.synchronize();
  const started = performance.now(), usage = process.cpuUsage();
  fn();
  const done = device.synchronize();
  const clock = performance.now() - started; // in Deno the call has waited for the GPU
  await done;
  const { user, system } = process.cpuUsage(usage);
  return device.isCpu
    ? (user + system) / 1e6
    : (device.provider === "deno" ? clock : performance.now() - started) / 1e3;
}

const SLOW = 1; // seconds, of which one turn tells enough

/** Measures shapes against each other: `rounds` turns of each, the best counts. */
export async function compare(device: Device, shapes: readonly Shape[], rounds = 3): Promise<Finding[]> {
  using made = new DisposableStack();
  const all = shapes.map((s) => made.use(prepare(device, s)));
  const once: number[] = [];
  for (const { run } of all) once.push(await seconds(device, run));
  for (let round = 0; round < rounds; round++) {
    for (const [i, p] of all.entries()) {
      if (round > 0 && once[i]! > SLOW) continue;
      const times = Math.max(1, Math.min(50, Math.floor(0.1 / once[i]!)));
      const spent = await seconds(device, () => {
        for (let n = 0; n < times; n++) p.run();
      });
      p.best = Math.min(p.best, spent / times);
    }
  }
  return all.map(({ best, flops, bytes, scratch }) => ({
    milliseconds: 1e3 * best,
    gigaflops: flops / best / 1e9,
    gigabytes: bytes / best / 1e9,
    scratch,
  }));
}

const bytesText = ({ scratch }: Finding): string => `${(scratch / 2 ** 20).toFixed(1)} MiB`;

function line(name: string, f: Finding): string {
  return `${name.padEnd(46)}${f.milliseconds.toFixed(2).padStart(10)} ms${f.gigaflops.toFixed(2).padStart(9)} GFLOP/s` +
    `${f.gigabytes.toFixed(2).padStart(8)} GB/s${(f.scratch / 1024).toFixed(0).padStart(10)} KiB scratch`;
}

/** Lengths of 8 sequences of at most `longest`, of which `padding` would be pads in rows of that length. */
function ragged(longest: number, padding: number): number[] {
  const mean = longest * (1 - padding), spread = Math.min(mean, longest - mean);
  const lengths = Array.from({ length: 8 }, (_, i) => Math.max(1, Math.round(mean + spread * (2 * i / 7 - 1))));
  return lengths;
}

if (import.meta.main) {
  const has = (flag: string) => Deno.args.includes(flag);
  await using device = await openDevice({ features: has("--plain") ? { subgroups: false } : {} });
  const { info, isCpu } = device, threads = has("--plain") ? ", no subgroups" : "";
  console.log(`${info.description || info.vendor}${threads}, ${isCpu ? "CPU" : "wall"} time, float16 keys, causal`);
  const only = flagValue("--only") ?? "";
  const show = async (shapes: (Shape & { name: string })[]): Promise<Finding[]> => {
    if (!shapes.some(({ name }) => name.includes(only))) return [];
    const found = await compare(device, shapes);
    for (const [i, { name }] of shapes.entries()) console.log(line(name, found[i]!));
    return found;
  };
  const base = { H: 16, Hkv: 16, Dh: 64 }, quick = has("--quick");
  const few = { H: 4, Hkv: 4, Dh: 64 }; // where it takes long
  for (const Dh of quick ? [64] : [64, 128]) {
    for (const S of quick ? [128, 512, 1024] : [128, 512, 1024, 2048, 4096, 8192]) {
      const heads = S > 2048 ? few : base;
      await show([{ name: `prefill ${S}, ${heads.H} heads of ${Dh}`, ...heads, Dh, lengths: [S] }]);
    }
  }
  await show([{ name: "prefill 512, 16/4 heads of 64", ...base, Hkv: 4, lengths: [512] }]);
  await show([{ name: "prefill 512, window 128", ...base, lengths: [512], window: 128 }]);
  await show([{ name: "prefill 512, float32 keys (efficient)", ...base, lengths: [512], dtype: "float32" }]);
  for (const keys of [512, 4096, ...quick ? [] : [32768]]) {
    await show([
      { name: `decode over ${keys}, 16/16 heads of 64`, ...base, lengths: [1], past: keys - 1 },
      { name: `decode over ${keys}, 16/4 heads of 64`, ...base, Hkv: 4, lengths: [1], past: keys - 1 },
    ]);
  }
  await show([{ name: "decode over 256, tensaur-tiny (8/2 of 32)", H: 8, Hkv: 2, Dh: 32, lengths: [1], past: 255 }]);
  const batch = [0, 0.3, 0.7].map((r) => ({
    name: `8 rows of 256, ${100 * r} % pads`,
    ...few,
    lengths: ragged(256, r),
  }));
  const [whole, ...parts] = await show(batch);
  for (const [i, part] of parts.entries()) {
    const share = (part.milliseconds / whole!.milliseconds).toFixed(2), tokens = 1 - [0.3, 0.7][i]!;
    console.log(
      `  ${share} of the padded time, ${tokens.toFixed(2)} of its tokens; ${(tokens + 0.1).toFixed(2)} is the limit`,
    );
  }
  for (const S of quick ? [512] : [2048, 4096]) {
    const H = Math.min(4, 8192 / S), shape = { H, Hkv: H, Dh: 64, lengths: [S] }; // more scores than a binding holds
    const [fused, math] = await show([
      { name: `against math ${S}, ${H} heads of 64`, ...shape },
      { name: `against math ${S}, ${H} heads of 64, math`, ...shape, backend: "math" },
    ]);
    if (!fused || !math) continue;
    const times = (math.milliseconds / fused.milliseconds).toFixed(1);
    console.log(`  ${times} times as fast as math, scratch ${bytesText(fused)} instead of ${bytesText(math)}`);
  }
}
