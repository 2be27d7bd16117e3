/**
 * `tensaur embed`: a vector for each text.
 *
 * @module
 */
import { Command, Option } from "commander";
import { ValueError } from "../errors.ts";
import { embed } from "../pipelines/mod.ts";
import { Interrupt } from "./interrupt.ts";
import {
  addDeviceOptions,
  addModelOptions,
  addOutputOptions,
  type DeviceFlags,
  type ModelFlags,
  type UiFlags,
  whole,
} from "./options.ts";
import { readSentenceConfig, type SentenceConfig } from "./sentence_config.ts";
import { openSession } from "./session.ts";
import { textTable } from "./table.ts";
import { Ui } from "./ui.ts";

interface EmbedFlags extends ModelFlags, DeviceFlags, UiFlags {
  file?: string;
  pooling?: "mean" | "cls";
  normalize?: boolean;
  maxLength?: number;
  similarity?: boolean;
}

const EXAMPLES = `
Examples:
  tensaur embed -m sentence-transformers/all-MiniLM-L6-v2 "A dog barks." "A cat meows."
  tensaur embed -m ./minilm --similarity "A dog barks." "Ein Hund bellt." "It rains."
  tensaur embed -m ./minilm --file texts.txt > vectors.jsonl

Each line of output is one text: {"index":0,"text":"A dog barks.","embedding":[…]}. With --json it is one object for
all. Pooling and normalization are what the checkpoint's modules.json says, else the normalized mean.`;

/** The command. */
export function embedCommand(): Command {
  const command = new Command("embed")
    .description("turn texts into vectors")
    .argument("[texts...]", "the texts; without any, each line of stdin is one")
    .option("-f, --file <file>", "each line of this file is a text")
    .addOption(new Option("--pooling <how>", "mean of the tokens, or the first one's").choices(["mean", "cls"]))
    .option("--normalize", "scale vectors to length 1")
    .option("--no-normalize", "leave vectors as they are")
    .option("--max-length <tokens>", "cut texts to so many tokens", whole(1))
    .option("--similarity", "print the cosine similarity of each text to each")
    .addHelpText("after", EXAMPLES);
  addOutputOptions(addDeviceOptions(addModelOptions(command, "folder or hub id of an embedding model (required)")));
  return command.action(run);
}

async function run(args: string[], flags: EmbedFlags): Promise<void> {
  const ui = new Ui(flags);
  if (flags.model === undefined) {
    throw new ValueError("Cannot embed as there must be a model: the embedded one writes stories", {
      hint: "Name one: -m sentence-transformers/all-MiniLM-L6-v2",
    });
  }
  const texts = await readTexts(args, flags);
  using interrupt = new Interrupt();
  using session = await openSession(flags, ui, { signal: interrupt.signal, task: "base" });
  const { model, tokenizer, path, name } = session;
  const config = await settingsOf(path, flags);
  ui.detail(`embedding   ${config.pooling} pooling, ${config.normalize ? "normalized" : "not normalized"}`);
  const start = performance.now();
  const exact = await interrupt.lift(() => embed(model, tokenizer, texts, config));
  const vectors = exact.map((v) => v.map((x) => Number(x.toPrecision(9)))); // enough digits for a float32
  ui.bar.clear();
  const seconds = (performance.now() - start) / 1000;
  const similarity = flags.similarity ? similarities(vectors) : undefined;
  const { pooling, normalize } = config, dimensions = model.sizes.hiddenSize;
  if (flags.json) ui.printJson({ model: name, dimensions, pooling, normalize, embeddings: vectors, similarity });
  else if (similarity) ui.print(`${similarityTable(texts, similarity)}\n`);
  else for (const [index, text] of texts.entries()) ui.print(jsonLine({ index, text, embedding: vectors[index] }));
  ui.detail(`texts       ${texts.length} in ${seconds.toFixed(2)} s, ${(texts.length / seconds).toFixed(1)} a second`);
}

async function readTexts(args: readonly string[], { file }: EmbedFlags): Promise<string[]> {
  if (args.length && file !== undefined) {
    throw new ValueError("Cannot embed as texts must come as arguments or from --file: both came");
  }
  if (args.length) return [...args];
  if (file === undefined && Deno.stdin.isTerminal()) {
    throw new ValueError("Cannot embed as there must be a text: none came", {
      hint: 'Pass texts as arguments, a file with --file, or lines on stdin: echo "A dog barks." | tensaur embed -m …',
    });
  }
  const input = file === undefined ? await new Response(Deno.stdin.readable).text() : await Deno.readTextFile(file);
  const lines = input.split(/\r?\n/).filter((line) => line.trim() !== "");
  if (lines.length) return lines;
  throw new ValueError(`Cannot embed as ${file ?? "stdin"} must hold a line of text: it is empty`);
}

/** What the flags say, else what the checkpoint says; its files are not asked for what the flags settle. */
async function settingsOf(path: string, flags: EmbedFlags): Promise<SentenceConfig> {
  const { pooling, normalize, maxLength } = flags;
  const own: SentenceConfig = pooling !== undefined && normalize !== undefined
    ? { pooling, normalize }
    : await readSentenceConfig(path);
  return {
    pooling: pooling ?? own.pooling,
    normalize: normalize ?? own.normalize,
    maxLength: maxLength ?? own.maxLength,
  };
}

/** Cosine similarity of each vector to each. */
export function similarities(vectors: readonly (readonly number[])[]): number[][] {
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
  const lengths = vectors.map((v) => Math.sqrt(dot(v, v)) || 1);
  return vectors.map((a, i) => vectors.map((b, j) => dot(a, b) / (lengths[i]! * lengths[j]!)));
}

function similarityTable(texts: readonly string[], matrix: readonly (readonly number[])[]): string {
  const name = (text: string) => text.length > 40 ? `${text.slice(0, 39)}…` : text;
  return textTable([
    ["", "", ...texts.map((_, i) => `${i + 1}`)],
    ...matrix.map((row, i) => [`${i + 1}`, name(texts[i]!), ...row.map((x) => x.toFixed(3))]),
  ], [1]);
}

function jsonLine(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}
