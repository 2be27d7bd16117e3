/**
 * What one decode step runs, by GPU timestamps: each of its kernels at its fastest over some steps, and the trace of the
 * fastest step for Chrome and Perfetto.
 *
 *     deno run -A bench/step_profile.ts FOLDER [steps]
 *
 * It takes only what the first release had, so that it runs in the folders of earlier commits too.
 */
import { loadModel, type Model, openDevice, startProfile, stream } from "../mod.ts";

/** A kernel of a step. */
export interface StepKernel {
  /** Without its flags. */
  name: string;
  calls: number;
  /** Microseconds of all its calls. */
  microseconds: number;
}

/** A step. */
export interface StepProfile {
  model: string;
  /** The costliest first. */
  kernels: StepKernel[];
  /** JSON for ui.perfetto.dev or chrome://tracing. */
  trace: string;
}

interface TraceEvent {
  name: string;
  ph: string;
  cat?: string;
  ts: number;
  dur: number;
}

const PROMPT = 32, STEPS = 64;

/** Profiles decode steps of the model in `path`. */
export async function stepProfile(path: string, steps = STEPS): Promise<StepProfile> {
  await using device = await openDevice();
  using model = await loadModel(path, { device, dtype: "float16" });
  await run(model, steps); // compiles
  const profiler = startProfile(device);
  await run(model, 1 + steps);
  const profile = await profiler.stop();
  return { model: path.split("/").at(-1)!, ...stepOf(profile.chromeTrace()) };
}

async function run(model: Model, maxNewTokens: number): Promise<void> {
  const inputIds = [Array.from({ length: PROMPT }, (_, i) => 3 + i * 7 % 1000)];
  for await (const _ of stream(model, { inputIds }, { doSample: false, eosTokenId: null, maxNewTokens }));
}

/**
 * The steps of `trace`: each kernel's fastest over all of them, and the events of the fastest step, from 0. A step begins
 * with the kernel that the prompt begins with, which comes first.
 */
export function stepOf(trace: string): Omit<StepProfile, "model"> {
  const { traceEvents, ...rest } = JSON.parse(trace) as { traceEvents: TraceEvent[] };
  const heads = traceEvents.filter(({ ph }) => ph === "M"), steps: TraceEvent[][] = [];
  const events = traceEvents.filter(({ cat }) => cat === "kernel"), kind = (name = "") => name.split(" ")[0]!;
  for (const event of events) {
    if (kind(event.name) === kind(events[0]!.name)) steps.push([]);
    steps.at(-1)!.push(event);
  }
  const time = (step: TraceEvent[]) => step.reduce((sum, { dur }) => sum + dur, 0);
  const step = steps.slice(1).reduce((best, next) => time(next) < time(best) ? next : best);
  const alike = steps.slice(1).filter(({ length }) => length === step.length);
  const least = step.map((event, i) => ({ ...event, dur: Math.min(...alike.map((other) => other[i]!.dur)) }));
  const kernels = [...Map.groupBy(least, ({ name }) => kind(name))]
    .map(([name, calls]) => ({ name, calls: calls.length, microseconds: time(calls) }))
    .sort((a, b) => b.microseconds - a.microseconds);
  const shifted = step.map((event) => ({ ...event, ts: event.ts - step[0]!.ts }));
  return { kernels, trace: JSON.stringify({ ...rest, traceEvents: [...heads, ...shifted] }) };
}

if (import.meta.main) {
  const [path = new URL("../models/tensaur-tiny", import.meta.url).pathname, steps] = Deno.args;
  console.log(JSON.stringify(await stepProfile(path, Number(steps ?? STEPS))));
}
