/**
 * What the device itself can do, measured where and when the kernels are: bytes moved by a kernel that only copies,
 * operations of one that only multiplies and adds.
 */
import process from "node:process";
import { type Device, kernel } from "../src/gpu/mod.ts";
import { empty } from "../src/tensor/mod.ts";

/** Rates of the device; of one core, where it is a program on the CPU. */
export interface Ceilings {
  /** GB/s, what is read and what is written both counted. */
  copy: number;
  /** GFLOP/s in float32, a multiplication and an addition being two. */
  fma: number;
}

/** Time of something, in milliseconds. */
export interface Spent {
  /** By the clock. */
  wall: number;
  /** Of all threads of the process. */
  cpu: number;
}

const COPY_BYTES = 2 ** 25, LANES = 64, VECTORS = 8, STEPS = 512, CHAINS = 14, ROUNDS = 5;
const CPU_LANES = 8, CPU_VECTORS = 256;

/** A kernel in which each of `lanes` threads copies `vectors` vec4s, `lanes` apart, `unrolled` at a step. */
function copyOf(name: string, lanes: number, vectors: number, unrolled: number) {
  const lines = Array.from({ length: unrolled }, (_, j) => `    y[i + ${j * lanes}u] = x[i + ${j * lanes}u];`);
  return kernel(
    name,
    `// @include "quads.wgsl"
@group(0) @binding(0) var<storage, read> x: array<quad>;
@group(0) @binding(1) var<storage, read_write> y: array<quad>;

@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let first = group.x * ${lanes * vectors}u;
  for (var i = first + lane; i < first + ${lanes * vectors}u; i += ${lanes * unrolled}u) {
${lines.join("\n")}
  }
}
`,
  );
}

// of a dozen shapes the fastest on lavapipe: 8.1 GB/s a core; 64 lanes with 8 neighbours each 4.5, one vec4 a thread 2.5; 64 bits at
// a time 1.4 times that of 32
const copyOnCpu = copyOf("bench_copy_cpu", CPU_LANES, CPU_VECTORS, 4);
const copyOnGpu = copyOf("bench_copy", LANES, VECTORS, VECTORS);

const fmaKernel = kernel(
  "bench_fma",
  `@group(0) @binding(0) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * ${LANES}u + lane;
  let m = 0.999 + 1e-9 * f32(i);
  let b = 1e-3;
${Array.from({ length: CHAINS }, (_, j) => `  var a${j} = f32(i + ${j}u);`).join("\n")}
  for (var step = 0u; step < ${STEPS}u; step++) {
${Array.from({ length: 4 * CHAINS }, (_, j) => `    a${j % CHAINS} = fma(a${j % CHAINS}, m, b);`).join("\n")}
  }
  if (i < arrayLength(&y)) { y[i] = ${Array.from({ length: CHAINS }, (_, j) => `a${j}`).join(" + ")}; }
}
`,
);

/** The rates of `device`: the best of several turns that the two kernels take. */
export async function measureCeilings(device: Device, rounds = ROUNDS): Promise<Ceilings> {
  const length = (device.isCpu ? COPY_BYTES : 8 * COPY_BYTES) / 4; // more than a GPU's cache
  using x = empty(device, [length]);
  using y = empty(device, [length]);
  const threads = device.isCpu ? 2 ** 12 : 2 ** 20;
  const bytes = x.byteLength, copyKernel = device.isCpu ? copyOnCpu : copyOnGpu;
  const groups = bytes / 16 / (device.isCpu ? CPU_LANES * CPU_VECTORS : LANES * VECTORS);
  const copy = () => copyKernel(device, { bindings: { x, y }, grid: [groups, 1, 1] });
  const fma = () => fmaKernel(device, { bindings: { y }, grid: [threads / LANES] });
  const found = { copy: 0, fma: 0 };
  await spent(device, copy, 1), await spent(device, fma, 1); // compiles
  const times = device.isCpu ? 2 : 20;
  for (let round = 0; round < rounds; round++) {
    const copied = rateTime(device, await spent(device, copy, times));
    const added = rateTime(device, await spent(device, fma, times));
    found.copy = Math.max(found.copy, times * 2 * bytes / copied / 1e6);
    found.fma = Math.max(found.fma, times * 2 * 4 * CHAINS * STEPS * threads / added / 1e6);
  }
  return found;
}

/** The time that rates are of: a core's on a CPU device, which other programs share; the clock's on a GPU. */
export function rateTime(device: Device, { wall, cpu }: Spent): number {
  return device.isCpu ? cpu : wall;
}

/** Runs `fn` so many times and waits for it. */
export async function spent(device: Device, fn: () => void, times: number): Promise<Spent> {
  await device.synchronize();
  const usage = process.cpuUsage(), start = performance.now();
  for (let i = 0; i < times; i++) fn();
  const done = device.synchronize();
  let wall = performance.now() - start; // in Deno the call has waited for the GPU, and sleeps 10 ms more
  await done;
  if (device.provider !== "deno") wall = performance.now() - start;
  const { user, system } = process.cpuUsage(usage);
  return { wall, cpu: (user + system) / 1000 };
}
