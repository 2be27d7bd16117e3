/**
 * What drafting pays: tokens for each pass of the target, and time against plain greedy decoding, interleaved in one run.
 * The ids are compared each time: drafting that changes the text is an error.
 *
 *     deno run -A bench/speculation_bench.ts [--rounds 3] [--tokens 96] [--json] [--only TEXT] [--small]
 *
 * bench-120m is the peers' model as it is; its draft is made of its first two layers and agrees by construction
 * (draft_of.ts). `--small` leaves them out.
 */
import { cpuUsage } from "node:process";
import { parseArgs } from "node:util";
import {
  generate,
  type GenerationOptions,
  loadModel,
  loadTokenizer,
  type Model,
  openDevice,
  type Tokenizer,
} from "../mod.ts";
import { writeDraftOf } from "./draft_of.ts";
import { benchModels } from "./peers/cache.ts";

const LARGE = "bench-120m", LARGE_ROUNDS = 2, ON: GenerationOptions = { eosTokenId: null };

/** Figures of one way to draft. */
export interface SpeculationResult {
  name: string;
  /** New tokens over all prompts. */
  tokens: number;
  /** Passes of the target. */
  passes: number;
  tokensPerPass: number;
  /** Drafted tokens that were kept, of those that were tried; of a draft of fixed length only. */
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

function median(values: number[]): number {
  const sorted = values.sort((a, b) => a - b), n = sorted.length;
  return (sorted[(n - 1) >> 1]! + sorted[n >> 1]!) / 2;
}

/** Runs both ways in turn, after one run of each that compiles. */
async function compare(
  model: Model,
  [name, prompts, how, drafted, more]: Case,
  { tokens, rounds }: BenchOptions,
): Promise<SpeculationResult> {
  const plain: GenerationOptions = { doSample: false, maxNewTokens: tokens, ...more }, drafting = { ...plain, ...how };
  const results: { greedy: Run; assisted: Run }[] = [];
  for (let round = 0; round <= rounds; round++) {
    const greedy = await timed(model, prompts, plain), assisted = await timed(model, prompts, drafting);
    if (JSON.stringify(greedy.ids) !== JSON.stringify(assisted.ids)) throw new Error(`${name}: the text has changed`);
    if (round > 0) results.push({ greedy, assisted });
  }
  const { ids, passes } = results[0]!.assisted, count = ids.flat().length, firsts = prompts.length;
  const kept = count / firsts > 1 ? (count - firsts) / (passes - firsts) - 1 : 0; // the passes of prompts try nothing
  return {
    name,
    tokens: count,
    passes,
    tokensPerPass: count / passes,
    ...drafted !== undefined && { acceptance: kept / drafted },
    wallRatio: median(results.map((r) => r.greedy.wall / r.assisted.wall)),
    cpuRatio: median(results.map((r) => r.greedy.cpu / r.assisted.cpu)),
  };
}

const PROMPTS = ["Once upon a time", "The old lighthouse", "One day, a little girl named Lily", "Tom and his dog"];

const ASKS = "<|im_start|>assistant\n", END = "<|im_end|>", SAME = 3, COPIED = 0.6;

/** Held-out conversations up to an answer that mostly repeats what was said before it. */
async function questions(encode: (text: string) => number[]): Promise<number[][]> {
  const text = await Deno.readTextFile(new URL("../models/recipe/held_out.txt", import.meta.url));
  const asked: number[][] = [];
  for (const document of text.split("<|begin_of_text|>")) {
    for (let at = 0; (at = document.indexOf(ASKS, at)) !== -1;) {
      at += ASKS.length;
      const before = encode(document.slice(0, at)), answer = encode(document.slice(at).split(END)[0]!);
      const said = new Set(runs(before)), again = runs(answer).filter((run) => said.has(run)).length;
      if (answer.length >= 8 && again >= COPIED * runs(answer).length) asked.push(before);
    }
  }
  return asked;
}

/** All runs of {@linkcode SAME} tokens. */
function runs(ids: readonly number[]): string[] {
  return ids.slice(SAME - 1).map((_, i) => ids.slice(i, i + SAME).join());
}

/** The results as rows, heads first. */
export function speculationTable(results: readonly SpeculationResult[]): string[][] {
  const rows = results.map((r) => [
    r.name,
    `${r.tokens}`,
    r.tokensPerPass.toFixed(2),
    r.acceptance === undefined ? "" : `${(100 * r.acceptance).toFixed(0)} %`,
    r.wallRatio.toFixed(2),
    r.cpuRatio.toFixed(2),
  ]);
  return [["what drafts", "tokens", "tokens a pass", "drafts kept", "x by the clock", "x by CPU time"], ...rows];
}

function line(r: SpeculationResult): string {
  const kept = r.acceptance === undefined ? "" : `${(100 * r.acceptance).toFixed(0)} % kept`;
  return `${r.name.padEnd(34)}${r.tokensPerPass.toFixed(2).padStart(6)} tokens a pass ${kept.padStart(12)}` +
    `${r.wallRatio.toFixed(2).padStart(8)} x wall${r.cpuRatio.toFixed(2).padStart(8)} x CPU`;
}

interface BenchOptions {
  tokens: number;
  rounds: number;
  /** Only what has this in its name. */
  only?: string;
  /** Leave out the models that must be made. */
  small?: boolean;
}

type Case = [
  name: string,
  prompts: readonly number[][],
  how: GenerationOptions,
  drafted?: number,
  plain?: GenerationOptions,
];

/** All ways; gives each result as soon as it is there. */
export async function* speculationBench(o: BenchOptions): AsyncGenerator<SpeculationResult> {
  await using device = await openDevice();
  const at = (name: string) => decodeURIComponent(new URL(`../models/${name}`, import.meta.url).pathname);
  const wanted = ([name]: Case) => name.includes(o.only ?? "");
  {
    using model = await loadModel(at("tensaur-tiny"), { device });
    using draft = await loadModel(at("tensaur-draft"), { device });
    const tokenizer = await loadTokenizer(at("tensaur-tiny"));
    for (const each of (await tinyCases(tokenizer, draft)).filter(wanted)) yield await compare(model, each, o);
  }
  if (o.small) return;
  const target = `${await benchModels(LARGE)}/${LARGE}`, folder = await Deno.makeTempDir();
  try {
    await writeDraftOf(target, folder, { layers: 2, halvings: 6 });
    using model = await loadModel(target, { device, dtype: "float16" });
    using draft = await loadModel(folder, { device, dtype: "float16" });
    const prompts: number[][] = []; // with what it says first: its text takes some time to settle
    for (const seed of [1, 2]) {
      const inputIds = [Array.from({ length: 4 }, (_, i) => seed * 7919 * (i + 3) % 16384)];
      const { sequences } = await generate(model, { inputIds }, { ...ON, doSample: false, maxNewTokens: 64 });
      prompts.push([...sequences[0]!]);
    }
    const cases = [3, 7].map((n): Case => {
      return [`${LARGE}, draft of ${n} by 2 of its layers`, prompts, draftOf(draft, n), n, ON];
    });
    for (const each of cases.filter(wanted)) {
      yield await compare(model, each, { ...o, rounds: Math.min(o.rounds, LARGE_ROUNDS) });
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A draft of fixed length. */
function draftOf(assistantModel: Model, numAssistantTokens: number): GenerationOptions {
  return { assistantModel, numAssistantTokens, assistantConfidenceThreshold: 0 };
}

async function tinyCases(tokenizer: Tokenizer, assistantModel: Model): Promise<Case[]> {
  const stories = PROMPTS.map((text) => tokenizer.encode(text));
  const asked = await questions((text) => tokenizer.encode(text, { addSpecialTokens: false }));
  const lookup = { promptLookupNumTokens: 10 };
  return [
    ...[2, 3, 5].map((n): Case => [`tiny, draft of ${n}`, stories, draftOf(assistantModel, n), n]),
    ["tiny, draft by the defaults", stories, { assistantModel }],
    ["tiny, lookup, stories", stories, lookup],
    ["tiny, lookup, answers that copy", asked, lookup],
    ["tiny, lookup, and the talk goes on", asked, lookup, undefined, ON],
  ];
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      tokens: { type: "string", default: "96" },
      rounds: { type: "string", default: "3" },
      only: { type: "string" },
      json: { type: "boolean" },
      small: { type: "boolean" },
    },
  });
  const { tokens, rounds, only, json, small } = values;
  for await (const result of speculationBench({ tokens: Number(tokens), rounds: Number(rounds), only, small })) {
    console.log(json ? JSON.stringify(result) : line(result));
  }
}
