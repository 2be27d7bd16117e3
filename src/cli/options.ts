/**
 * Options that several commands have, and how their values are read.
 *
 * @module
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import { ValueError } from "../errors.ts";
import type { GenerationOptions } from "../generation/mod.ts";
import type { Provider } from "../gpu/mod.ts";
import type { PlanOptions } from "../models/mod.ts";
import { readEnv } from "../weights/hub_settings.ts";
import type { UiFlags } from "./ui.ts";

/** Which model, and where it runs. */
export interface ModelFlags {
  model?: string;
  dtype?: PlanOptions["dtype"];
  revision?: string;
  offline?: boolean;
}

/** Where to run. */
export interface DeviceFlags {
  deviceProvider?: Provider;
  memoryBudget?: number;
}

/** How to choose tokens. */
export interface SamplingFlags {
  maxTokens?: number;
  temp?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repeatPenalty?: number;
  seed?: number;
  stop?: string[];
  ignoreEos?: boolean;
  jsonSchema?: string;
  beams?: number;
  lookup?: number | true;
}

/** What is kept of keys and values. */
export interface CacheFlags {
  maxKvSize?: number;
  promptCacheFile?: string;
}

/** What drafts tokens for the model. */
export interface DraftFlags {
  draft?: string;
}

const LOOKUP_TOKENS = 10;
const PROVIDERS = { deno: "deno", dawn: "dawn" } as const;
const DTYPES: Readonly<Record<string, PlanOptions["dtype"]>> = {
  auto: "auto",
  float32: "float32",
  float16: "float16",
  bfloat16: "bfloat16",
  f32: "float32",
  f16: "float16",
  bf16: "bfloat16",
};

/** Adds what every command has. */
export function addOutputOptions(command: Command): Command {
  return command
    .optionsGroup("Output:")
    .option("--json", "print results as JSON")
    .option("-q, --quiet", "print nothing to stderr but errors")
    .option("-v, --verbose", "print more to stderr, and stack traces of errors")
    .addOption(new Option("--color <when>", "colour the output").choices(["auto", "always", "never"]).default("auto"))
    .optionsGroup("Options:");
}

/** Adds the options of {@linkcode ModelFlags}. */
export function addModelOptions(command: Command, help = "folder or hub id (default: the embedded model)"): Command {
  command.optionsGroup("Model:");
  addEnvOption(command, "-m, --model <model>", help, "TENSAUR_MODEL", String);
  const choices = "keep matrices as auto (as stored), float32, float16 or bfloat16";
  addEnvOption(command, "--dtype <dtype>", choices, "TENSAUR_DTYPE", oneOf(DTYPES));
  return command
    .option("--revision <revision>", "branch, tag or commit on the hub")
    .option("--offline", "use what was downloaded before; no network");
}

/** Adds the options of {@linkcode DeviceFlags}. */
export function addDeviceOptions(command: Command): Command {
  command.optionsGroup("Device:");
  const providers = "WebGPU of deno (wgpu, the default) or dawn (npm:webgpu)";
  addEnvOption(command, "--device-provider <name>", providers, "TENSAUR_DEVICE_PROVIDER", oneOf(PROVIDERS));
  const budget = "most GPU memory to use, such as 512MiB or 4GiB";
  return addEnvOption(command, "--memory-budget <bytes>", budget, "TENSAUR_MEMORY_BUDGET", parseBytes);
}

/** Adds an option that an environment variable can set too. Commander's own way needs a permission for each of them. */
function addEnvOption<T>(
  command: Command,
  flags: string,
  help: string,
  variable: string,
  parse: (text: string) => T,
): Command {
  const option = new Option(flags, `${help} (env: ${variable})`).argParser(parse);
  const text = readEnv(variable);
  if (text === undefined) return command.addOption(option);
  try {
    return command.addOption(option.default(parse(text), text));
  } catch (cause) {
    throw new ValueError(`Cannot start as ${variable} must be what ${option.long} takes: current value is "${text}"`, {
      hint: (cause as Error).message,
      cause,
    });
  }
}

/** Adds the options of {@linkcode SamplingFlags}. */
export function addSamplingOptions(command: Command): Command {
  return command
    .optionsGroup("Sampling (default: the model's generation_config.json):")
    .option("-n, --max-tokens <n>", "most new tokens (default: the model's, else 256)", whole(1))
    .option("--temp <t>", "temperature; 0 always takes the likeliest token", number(0))
    .option("--top-k <k>", "draw among the k likeliest tokens; 0 for all", whole(0))
    .option("--top-p <p>", "draw among the likeliest with this probability together; 1 for all", number(0, 1))
    .option("--min-p <p>", "draw among those at least p times as likely as the likeliest", number(0, 1))
    .option("--repeat-penalty <x>", "divide the scores of tokens that occurred by x; 1 for none", number(0))
    .option("--seed <n>", "the same seed draws the same tokens", whole(0))
    .option("--stop <text>", "end before this text; may be given several times", collect)
    .option("--ignore-eos", "do not end at the model's end of sequence")
    .option("--json-schema <schema>", "the text is JSON that this schema takes; @file reads it from a file", readSchema)
    .option("--beams <n>", "beam search with n beams; the text comes at its end", whole(1))
    .option("--draft <model>", "folder or hub id of a smaller model that drafts tokens; the text stays the same")
    .option("--lookup [n]", "draft n tokens (default: 10) from what followed the same words before", whole(1));
}

/** Adds the options of {@linkcode CacheFlags}. */
export function addCacheOptions(command: Command, maxKvSize: string): Command {
  return command
    .optionsGroup("Keys and values:")
    .option("--max-kv-size <tokens>", maxKvSize, whole(8))
    .option(
      "--prompt-cache-file <file>",
      "keep those of the prompt in a file, and take from it what the prompt begins with",
    );
}

/** The library's options for `flags`; a seed is drawn where none is given, so that it can be told. */
export function samplingOf(flags: SamplingFlags): GenerationOptions & { seed: number } {
  const { temp, topK, topP, minP, repeatPenalty, stop, ignoreEos, beams, lookup, jsonSchema } = flags;
  const draws = [temp, topK, topP, minP].some((value) => value !== undefined);
  return {
    doSample: temp === 0 ? false : draws ? true : (beams ?? 1) > 1 ? false : undefined,
    temperature: temp || undefined,
    topK,
    topP,
    minP,
    repetitionPenalty: repeatPenalty,
    seed: flags.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!,
    stopStrings: stop,
    eosTokenId: ignoreEos ? null : undefined,
    numBeams: beams,
    jsonSchema,
    promptLookupNumTokens: lookup === true ? LOOKUP_TOKENS : lookup,
  };
}

function readSchema(text: string): string {
  return text.startsWith("@") ? Deno.readTextFileSync(text.slice(1)) : text;
}

/** Flags of every command. */
export type { UiFlags };

/** A parser of whole numbers from `least`. */
export function whole(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least}.`);
  };
}

/** A parser of finite numbers from `least` to `most`. */
export function number(least: number, most = Infinity): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== "" && Number.isFinite(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a number from ${least}${most < Infinity ? ` to ${most}` : ""}.`);
  };
}

/** Reads "512MiB", "4G", "1.5 GB" or a number of bytes. */
export function parseBytes(text: string): number {
  const [, amount, unit = "", binary] = /^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*$/i.exec(text) ?? [];
  const power = " KMGT".indexOf(unit.toUpperCase() || " ");
  const bytes = Math.floor(Number(amount) * (binary || !/b\s*$/i.test(text) ? 1024 : 1000) ** power);
  if (bytes > 0) return bytes;
  throw new InvalidArgumentError("It must be a size such as 512MiB, 4GiB or a number of bytes.");
}

function oneOf<T>(choices: Readonly<Record<string, T>>): (text: string) => T {
  return (text) => {
    if (Object.hasOwn(choices, text)) return choices[text]!;
    throw new InvalidArgumentError(`Allowed choices are ${Object.keys(choices).join(", ")}.`);
  };
}

/** Gathers the values of an option that may be given several times. */
export function collect(text: string, before: string[] = []): string[] {
  return [...before, text];
}
