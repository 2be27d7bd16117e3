/**
 * Decode of the embedded model: the library's loop against the same loop with an awaited read a token, interleaved in one
 * run so that what else the machine does falls on both.
 *
 *     deno run -A bench/decode_bench.ts [model] [tokens] [rounds]
 */
import { type GenerationOptions, loadModel, type Model, openDevice, stream } from "../mod.ts";
import { Decoder } from "../src/generation/decoder.ts";
import { resolveOptions } from "../src/generation/resolve.ts";

/** One measurement, in tokens a second over the decode steps (prefill left out). */
export interface DecodeResult {
  model: string;
  device: string;
  tokens: number;
  rounds: number;
  /** Best of the rounds. */
  ahead: number;
  /** Best of the rounds. */
  awaited: number;
  /** Median over the rounds of ahead / awaited in the same round. */
  ratio: number;
  dispatchesPerToken: number;
}

const PROMPT = [2043, 510, 300, 257];

/** Rate of the library's loop. */
async function ahead(model: Model, o: GenerationOptions): Promise<number> {
  let first = 0, steps = 0;
  for await (const _ of stream(model, { inputIds: [PROMPT] }, o)) {
    if (steps++ === 0) first = performance.now();
  }
  return (steps - 1) / (performance.now() - first) * 1000;
}

/** Rate of a loop that waits for each token: what `await read()` after every step costs. */
async function awaited(model: Model, o: GenerationOptions): Promise<number> {
  const resolved = resolveOptions(model, o, PROMPT.length);
  using cache = model.newCache();
  using decoder = new Decoder(model, [PROMPT], cache, resolved);
  using logits = await decoder.prefill();
  decoder.choose(logits);
  await decoder.read(false);
  const first = performance.now(), until = PROMPT.length + resolved.newTokens;
  for (let i = 1; i < resolved.newTokens; i++) {
    decoder.step(PROMPT.length + i - 1, until);
    await decoder.read(false);
  }
  return (resolved.newTokens - 1) / (performance.now() - first) * 1000;
}

/** Runs both in turn. */
export async function decodeBench(path: string, tokens = 128, rounds = 5): Promise<DecodeResult> {
  await using device = await openDevice();
  using model = await loadModel(path, { device });
  const o = { doSample: false, eosTokenId: null, maxNewTokens: tokens } as const;
  await ahead(model, o); // compiles
  const results: { ahead: number; awaited: number }[] = [];
  const before = device.stream.counters.dispatches;
  await ahead(model, o);
  const dispatchesPerToken = (device.stream.counters.dispatches - before) / tokens;
  for (let i = 0; i < rounds; i++) results.push({ awaited: await awaited(model, o), ahead: await ahead(model, o) });
  const ratios = results.map((r) => r.ahead / r.awaited).sort((a, b) => a - b);
  return {
    model: path.split("/").at(-1)!,
    device: device.info.description || device.info.vendor,
    tokens,
    rounds,
    ahead: Math.max(...results.map((r) => r.ahead)),
    awaited: Math.max(...results.map((r) => r.awaited)),
    ratio: ratios[rounds >> 1]!,
    dispatchesPerToken,
  };
}

if (import.meta.main) {
  const [path = new URL("../models/tensaur-tiny", import.meta.url).pathname, tokens, rounds] = Deno.args;
  console.log(JSON.stringify(await decodeBench(path, Number(tokens ?? 128), Number(rounds ?? 5)), null, 2));
}
