/**
 * How the benches of ops measure: the best of several chains of launches, each chain waited for once.
 *
 * `deno run -A bench/ops/softmax_bench.ts` prints a line per shape with its rates, `--smoke` runs each once, `--json` prints
 * a line of JSON each, `--only TEXT` leaves out the others; `deno bench -A` runs the same files, the first shape of a group being its baseline.
 * `TENSAUR_TEST_PROVIDER=dawn` takes Dawn, `TENSAUR_TEST_RUNG=matrix` its subgroup matrices, `TENSAUR_BENCH_PLAIN=1` leaves
 * subgroups out.
 */
import { type Device, type DeviceOptions, openDevice } from "../src/gpu/mod.ts";
import { tidy } from "../src/tensor/mod.ts";
import { type Ceilings, measureCeilings, rateTime, type Spent, spent } from "./ceilings.ts";
import { flagValue } from "./flags.ts";

/** One bench. */
export interface Bench {
  /** The op. */
  name: string;
  /** Shapes of its inputs, for the reader. */
  shape: string;
  /** Bytes that it has to read and write, each once. */
  bytes: number;
  /** Floating point operations, where they are what counts. */
  flops?: number;
  /** One launch. Tensors that it makes are disposed of. */
  run: () => unknown;
}

/** What {@linkcode measure} found. */
export interface Measurement {
  name: string;
  shape: string;
  /** Milliseconds a launch by the clock, the best chain's mean. */
  milliseconds: number;
  /** CPU milliseconds a launch of all threads, the best chain's mean. */
  cpuMilliseconds: number;
  /** The one of them that rates are of: CPU time on a CPU device. */
  rated: number;
  /** `bytes` over the time; a core's on a CPU device, as `gigaflopsPerSecond`. */
  gigabytesPerSecond: number;
  /** `flops` over the time. */
  gigaflopsPerSecond?: number;
  /** The larger of its parts of the device's own rates, as this process measured them: how near its limit it is. */
  share: number;
  /** Those rates. */
  ceilings: Ceilings;
}

const CHAIN_MILLISECONDS = 100, LONGEST_CHAIN = 250, ROUNDS = 5;
const has = (flag: string) => Deno.args.includes(flag);
const smoke = has("--smoke"), json = has("--json"), rounds = has("--quick") ? 2 : ROUNDS;
const only = flagValue("--only") ?? ""; // a part of the name and the shape
const benching = Deno.bench.length > 0; // outside `deno bench` it is a stub without parameters
const groups = new Set<string>();
let device: Promise<Device> | undefined, ceilings: Promise<Ceilings> | undefined;

/** What the environment says of the device to measure. */
export function benchOptions(): DeviceOptions {
  const matrix = Deno.env.get("TENSAUR_TEST_RUNG") === "matrix", plain = Deno.env.get("TENSAUR_BENCH_PLAIN") === "1";
  const provider = matrix || Deno.env.get("TENSAUR_TEST_PROVIDER") === "dawn" ? "dawn" : "deno";
  return { provider, features: plain ? { subgroups: false } : matrix ? { subgroupMatrix: true } : {} };
}

/** The device that all benches of a process share. */
export function benchDevice(): Promise<Device> {
  return device ??= openDevice(benchOptions());
}

/** Measures and prints `bench`, or registers it under `deno bench`, which then gives no measurement. */
export async function measure(device: Device, bench: Bench): Promise<Measurement | undefined> {
  if (benching) return void register(device, bench);
  const { name, shape, bytes, flops } = bench;
  if (!`${name} ${shape}`.includes(only)) return;
  const best = await chain(device, bench, 1); // compiles
  ceilings ??= measureCeilings(device, smoke ? 1 : rounds);
  const limits = await ceilings;
  if (!smoke) {
    const once = await chain(device, bench, 1);
    const length = Math.ceil(Math.min(LONGEST_CHAIN, CHAIN_MILLISECONDS / once.wall));
    Object.assign(best, once);
    for (let round = 0; round < rounds; round++) {
      const { wall, cpu } = await chain(device, bench, length);
      best.wall = Math.min(best.wall, wall);
      best.cpu = round === 0 ? cpu : Math.min(best.cpu, cpu); // a chain of 1 is shorter than the CPU clock is fine
    }
  }
  const rated = rateTime(device, best), time = rated * 1e6, gigabytes = bytes / time, gigaflops = (flops ?? 0) / time;
  const found: Measurement = {
    name,
    shape,
    milliseconds: best.wall,
    cpuMilliseconds: best.cpu,
    rated,
    gigabytesPerSecond: gigabytes,
    ...(flops !== undefined && { gigaflopsPerSecond: gigaflops }),
    share: Math.max(gigabytes / limits.copy, gigaflops / limits.fma),
    ceilings: limits,
  };
  console.log(json ? JSON.stringify(found) : line(found));
  return found;
}

function register(device: Device, bench: Bench): void {
  const { name, shape } = bench, baseline = !groups.has(name);
  groups.add(name);
  const fn = async (clock: Deno.BenchContext) => {
    await device.synchronize();
    clock.start();
    tidy(device, () => void bench.run());
    const done = device.synchronize();
    if (device.provider === "deno") clock.end(); // it has waited for the GPU by now, and sleeps 10 ms more
    await done;
    if (device.provider !== "deno") clock.end();
  };
  Deno.bench({ name: `${name} ${shape}`, group: name, baseline, fn });
}

/** Time of a launch in a chain of `length`. */
async function chain(device: Device, { run }: Bench, length: number): Promise<Spent> {
  const { wall, cpu } = await spent(device, () => tidy(device, () => void run()), length);
  return { wall: wall / length, cpu: cpu / length };
}

/** A measurement as a line of text. */
export function line(
  { name, shape, milliseconds, gigabytesPerSecond, gigaflopsPerSecond, share }: Measurement,
): string {
  const rate = gigaflopsPerSecond === undefined ? "" : `${gigaflopsPerSecond.toFixed(2).padStart(10)} GFLOP/s`;
  return `${name.padEnd(24)}${shape.padEnd(32)}${milliseconds.toFixed(3).padStart(10)} ms` +
    `${gigabytesPerSecond.toFixed(2).padStart(9)} GB/s${rate.padEnd(18)}${(100 * share).toFixed(0).padStart(5)} %`;
}
