/**
 * What a decode step costs the host: encoding and submitting recorded steps while the GPU is idle, so that nothing waits
 * for it; and what a prompt costs the host that was, or was not, run before at its length.
 *
 *     deno run -A bench/replay_bench.ts [model] [rounds]
 */
import { compile, loadModel, type LoadOptions, type Model, openDevice } from "../mod.ts";
import { Decoder } from "../src/generation/decoder.ts";
import { resolveOptions } from "../src/generation/resolve.ts";

/** Host time of a step, in microseconds. */
export interface ReplayResult {
  model: string;
  dispatches: number;
  /** By steps in one submission: least and median over the rounds, a step. */
  steps: { steps: number; least: number; median: number }[];
  /** Milliseconds of the host for a prompt of a length not run before, and the bind groups it made. */
  newPrompt: { milliseconds: number; bindGroups: number };
  /** The same where the length was run before. */
  knownPrompt: { milliseconds: number; bindGroups: number };
}

const GOAL = { dispatch: 3, step: 150 }; // microseconds
const LENGTH = 512;

/** Measures a model whose decode step is recorded already. */
export async function replayBench(path: string, rounds = 30, options: LoadOptions = {}): Promise<ReplayResult> {
  await using device = await openDevice();
  using model = await loadModel(path, { device, ...options });
  await compile(model, { maxLength: LENGTH });
  using cache = model.newCache();
  cache.reserve(1, [LENGTH]);
  const o = resolveOptions(model, { doSample: false, eosTokenId: null, maxNewTokens: LENGTH - 1 }, 1);
  using decoder = new Decoder(model, [[0]], cache, o);
  using logits = await decoder.prefill();
  decoder.choose(logits);
  let length = 1;
  const run = async (steps: number) => {
    if (length + steps >= LENGTH) { // the times do not depend on what the cache holds
      cache.crop([1]);
      length = 1;
    }
    await device.synchronize();
    const start = performance.now();
    decoder.step(length, LENGTH, steps);
    length += steps;
    return 1000 * (performance.now() - start) / steps;
  };
  await run(1); // records
  const before = device.stream.counters.dispatches;
  await run(1);
  const dispatches = device.stream.counters.dispatches - before, steps: ReplayResult["steps"] = [];
  for (const count of [1, 4, 16]) {
    const times: number[] = [];
    for (let i = 0; i < rounds; i++) times.push(await run(count));
    times.sort((a, b) => a - b);
    steps.push({ steps: count, least: times[0]!, median: times[rounds >> 1]! });
  }
  await prompt(model, 40); // compiles
  const newPrompt = await prompt(model, 48), knownPrompt = await prompt(model, 48);
  return { model: path.split("/").at(-1)!, dispatches, steps, newPrompt, knownPrompt };
}

async function prompt(model: Model, length: number): Promise<ReplayResult["newPrompt"]> {
  const { device } = model, ids = Array<number>(length).fill(1);
  const o = resolveOptions(model, { doSample: false, eosTokenId: null, maxNewTokens: 1 }, length);
  using cache = model.newCache();
  await device.synchronize();
  const groups = device.kernels.counters.bindGroups, start = performance.now();
  using decoder = new Decoder(model, [ids], cache, o);
  using _logits = await decoder.prefill(); // nothing is submitted yet: a short prompt has fewer commands than one holds
  const milliseconds = performance.now() - start;
  await device.synchronize();
  return { milliseconds, bindGroups: device.kernels.counters.bindGroups - groups };
}

/** The result as text. */
export function replayText({ model, dispatches, steps, newPrompt, knownPrompt }: ReplayResult): string {
  const goal = GOAL.step + GOAL.dispatch * dispatches;
  return [
    `host time of a replayed step of ${model}, ${dispatches} dispatches (goal ${goal} µs):`,
    ...steps.map(({ steps, least, median }) =>
      `  ${steps} a submission: ${least.toFixed(0)} µs, ${(least / dispatches).toFixed(2)} a dispatch; median ${
        median.toFixed(0)
      } µs`
    ),
    `  a prompt of 48 tokens: ${
      newPrompt.milliseconds.toFixed(1)
    } ms and ${newPrompt.bindGroups} bind groups the first ` +
    `time, then ${knownPrompt.milliseconds.toFixed(1)} ms and ${knownPrompt.bindGroups}`,
  ].join("\n");
}

if (import.meta.main) {
  const [path = new URL("../models/tensaur-tiny", import.meta.url).pathname, rounds] = Deno.args;
  console.log(replayText(await replayBench(path, Number(rounds ?? 30))));
}
