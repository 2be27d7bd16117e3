/**
 * How the benches of ops measure: the best of several chains of launches, each chain waited for once.
 *
 * `deno run -A bench/ops/softmax_bench.ts` prints a line per shape with its GB/s, `--smoke` runs each once; `deno bench`
 * runs the same files.
 */
import { type Device, openDevice } from "../src/gpu/mod.ts";
import { tidy } from "../src/tensor/mod.ts";

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
  /** Milliseconds a launch, the best chain's mean. */
  milliseconds: number;
  /** `bytes` over the time. */
  gigabytesPerSecond: number;
  /** `flops` over the time. */
  gigaflopsPerSecond?: number;
}

const CHAIN_MILLISECONDS = 100, LONGEST_CHAIN = 250, ROUNDS = 5;
const smoke = Deno.args.includes("--smoke");
const benching = Deno.bench.length > 0; // outside `deno bench` it is a stub without parameters
let device: Promise<Device> | undefined;

/** The device that all benches of a process share; `TENSAUR_TEST_PROVIDER=dawn` makes it Dawn's. */
export function benchDevice(): Promise<Device> {
  const provider = Deno.env.get("TENSAUR_TEST_PROVIDER") === "dawn" ? "dawn" : "deno";
  return device ??= openDevice({ provider });
}

/** Measures and prints `bench`, or registers it under `deno bench`, which then gives no measurement. */
export async function measure(device: Device, bench: Bench): Promise<Measurement | undefined> {
  const { name, shape, bytes, flops } = bench;
  if (benching) {
    Deno.bench({ name: `${name} ${shape}`, group: name, fn: async (clock) => await chain(device, bench, 1, clock) });
    return;
  }
  let best = await timed(device, bench, 1); // compiles
  if (!smoke) {
    const length = Math.ceil(Math.min(LONGEST_CHAIN, CHAIN_MILLISECONDS / await timed(device, bench, 1)));
    for (let round = 0; round < ROUNDS; round++) best = Math.min(best, await timed(device, bench, length));
  }
  const found: Measurement = { name, shape, milliseconds: best, gigabytesPerSecond: bytes / best / 1e6 };
  if (flops !== undefined) found.gigaflopsPerSecond = flops / best / 1e6;
  console.log(line(found));
  return found;
}

/** Milliseconds a launch in a chain of `length`. */
async function timed(device: Device, bench: Bench, length: number): Promise<number> {
  let started = 0, ended = 0;
  const clock = { start: () => started = performance.now(), end: () => ended = performance.now() };
  await chain(device, bench, length, clock);
  return (ended - started) / length;
}

/** Runs `length` launches and waits for them, with `clock` going from the first launch to the end of the last. */
async function chain(
  device: Device,
  { run }: Bench,
  length: number,
  clock: { start(): void; end(): void },
): Promise<void> {
  await device.synchronize();
  clock.start();
  for (let i = 0; i < length; i++) tidy(device, () => void run());
  const done = device.synchronize();
  if (device.provider === "deno") clock.end(); // it has waited for the GPU by now, and sleeps 10 ms more
  await done;
  if (device.provider !== "deno") clock.end();
}

function line({ name, shape, milliseconds, gigabytesPerSecond, gigaflopsPerSecond }: Measurement): string {
  const rate = gigaflopsPerSecond === undefined ? "" : `${gigaflopsPerSecond.toFixed(2).padStart(10)} GFLOP/s`;
  return `${name.padEnd(20)}${shape.padEnd(28)}${milliseconds.toFixed(3).padStart(10)} ms` +
    `${gigabytesPerSecond.toFixed(2).padStart(9)} GB/s${rate}`;
}
