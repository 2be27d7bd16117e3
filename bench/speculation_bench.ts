/**
 * What drafting pays: tokens for each pass of the target, and time against plain greedy decoding, interleaved in one run.
 * The ids are compared each time: drafting that changes the text is an error.
 *
 *     deno run -A bench/speculation_bench.ts [--rounds 3] [--tokens 96] [--from LLAMA_FOLDER] [--json]
 *
 * `--from` is a Llama checkpoint in float32, such as the peers' bench-120m, of which a target and a draft of 2 layers are
 * made that agree by construction (layered_pair.ts). Times are the CPU's where the device is one, else the wall's.
 */
import { cpuUsage } from "node:process";
import { parseArgs } from "node:util";
import { generate, type GenerationOptions, loadModel, loadTokenizer, type Model, openDevice } from "../mod.ts";
import { makeLayeredPair } from "./layered_pair.ts";

/** Figures of one way to draft. */
export interface SpeculationResult {
  name: string;
  /** New tokens over all prompts. */
  tokens: number;
  /** Passes of the target. */
  passes: number;
  tokensPerPass: number;
  /** Drafted tokens that were kept, of those that were drafted; of a draft of fixed length only. */
  acceptance?: number;
  /** Plain greedy time by drafting time, the median of the rounds. */
  wallRatio: number;
  /** The same in CPU time of all threads. */
  cpuRatio: number;
}

interface Run {
  ids: number[][];
  passes: number;
  wall: number;
  cpu: number;
}

async function timed(model: Model, prompts: readonly number[][], o: GenerationOptions): Promise<Run> {
  let puts = 0;
  const ids: number[][] = [], start = performance.now(), before = cpuUsage();
  for (const prompt of prompts) {
    const streamer = { put: () => void puts++, end() {} };
    const { sequences } = await generate(model, { inputIds: [prompt] }, { ...o, streamer });
    ids.push([...sequences[0]!].slice(prompt.length));
  }
  await model.device.synchronize();
  const { user, system } = cpuUsage(before);
  return { ids, passes: puts - prompts.length, wall: performance.now() - start, cpu: (user + system) / 1000 };
}

const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1]!;

/** Runs both ways in turn, after one run of each that compiles. */
async function compare(
  name: string,
  model: Model,
  prompts: readonly number[][],
  how: GenerationOptions,
  { tokens, rounds, drafted }: { tokens: number; rounds: number; drafted?: number },
): Promise<SpeculationResult> {
  const plain: GenerationOptions = { doSample: false, maxNewTokens: tokens }, drafting = { ...plain, ...how };
  const results: { greedy: Run; assisted: Run }[] = [];
  for (let round = 0; round <= rounds; round++) {
    const greedy = await timed(model, prompts, plain), assisted = await timed(model, prompts, drafting);
    if (JSON.stringify(greedy.ids) !== JSON.stringify(assisted.ids)) throw new Error(`${name}: the text has changed`);
    if (round > 0) results.push({ greedy, assisted });
  }
  const { ids, passes } = results[0]!.assisted, count = ids.flat().length;
  const tokensPerPass = count / passes;
  return {
    name,
    tokens: count,
    passes,
    tokensPerPass,
    ...drafted !== undefined && { acceptance: (tokensPerPass - 1) / drafted },
    wallRatio: median(results.map((r) => r.greedy.wall / r.assisted.wall)),
    cpuRatio: median(results.map((r) => r.greedy.cpu / r.assisted.cpu)),
  };
}

const PROMPTS = ["Once upon a time", "The old lighthouse", "One day, a little girl named Lily", "Tom and his dog"];

/** Questions about a story, and things to say again: held-out conversations up to their last answer. */
async function questions(): Promise<string[]> {
  const text = await Deno.readTextFile(new URL("../models/recipe/held_out.txt", import.meta.url));
  const asks = "<|im_start|>assistant\n";
  const about = text.split("<|begin_of_text|>").filter((each) => /Read this story|[Rr]epeat/.test(each));
  return about.filter((each) => each.includes(asks)).map((each) => each.slice(0, each.lastIndexOf(asks) + asks.length));
}

function line(r: SpeculationResult): string {
  const kept = r.acceptance === undefined ? "" : `${(100 * r.acceptance).toFixed(0)} % kept`;
  return `${r.name.padEnd(34)}${r.tokensPerPass.toFixed(2).padStart(6)} tokens a pass ${kept.padStart(12)}` +
    `${r.wallRatio.toFixed(2).padStart(8)} x wall${r.cpuRatio.toFixed(2).padStart(8)} x CPU`;
}

/** All ways; gives each result as soon as it is there. */
export async function* speculationBench(
  { tokens, rounds, from }: { tokens: number; rounds: number; from?: string },
): AsyncGenerator<SpeculationResult> {
  await using device = await openDevice();
  const at = (name: string) => new URL(`../models/${name}`, import.meta.url).pathname;
  {
    using model = await loadModel(at("tensaur-tiny"), { device });
    using draft = await loadModel(at("tensaur-draft"), { device });
    const tokenizer = await loadTokenizer(at("tensaur-tiny"));
    const stories = PROMPTS.map((text) => tokenizer.encode(text));
    for (const drafted of [2, 3, 5]) {
      const how = { assistantModel: draft, numAssistantTokens: drafted, assistantConfidenceThreshold: 1e-9 };
      yield await compare(`tiny, draft of ${drafted}`, model, stories, how, { tokens, rounds, drafted });
    }
    const unsure = { assistantModel: draft, numAssistantTokens: 8, assistantConfidenceThreshold: 0.8 };
    yield await compare("tiny, draft while it is sure", model, stories, unsure, { tokens, rounds });
    const asked = (await questions()).map((text) => tokenizer.encode(text));
    const lookup = { promptLookupNumTokens: 8 };
    yield await compare("tiny, lookup, question and answer", model, asked, lookup, { tokens, rounds });
  }
  if (from === undefined) return;
  const folder = await Deno.makeTempDir();
  try {
    const pair = await makeLayeredPair(from, folder, 2, 0.05);
    using model = await loadModel(pair.target, { device });
    using draft = await loadModel(pair.draft, { device });
    const V = model.sizes.vocabSize,
      prompts = [1, 2].map((seed) => Array.from({ length: 16 }, (_, i) => seed * 7919 * (i + 3) % V));
    for (const drafted of [3, 6, 10]) {
      const how = { assistantModel: draft, numAssistantTokens: drafted, assistantConfidenceThreshold: 1e-9 };
      yield await compare(`12 layers, draft of ${drafted} by 2`, model, prompts, how, { tokens, rounds, drafted });
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      tokens: { type: "string" },
      rounds: { type: "string" },
      from: { type: "string" },
      json: { type: "boolean" },
    },
  });
  const { tokens = "96", rounds = "3", from, json } = values;
  for await (const result of speculationBench({ tokens: Number(tokens), rounds: Number(rounds), from })) {
    console.log(json ? JSON.stringify(result) : line(result));
  }
}
