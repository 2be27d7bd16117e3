/**
 * `tensaur generate`: text after a prompt.
 *
 * @module
 */
import { Command } from "commander";
import { type Cache, SinkCache } from "../cache/mod.ts";
import { AbortError, ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import type { Tokenizer } from "../tokenizer/mod.ts";
import { Interrupt } from "./interrupt.ts";
import {
  addCacheOptions,
  addDeviceOptions,
  addModelOptions,
  addOutputOptions,
  addSamplingOptions,
  type CacheFlags,
  type DeviceFlags,
  type DraftFlags,
  type ModelFlags,
  type SamplingFlags,
  samplingOf,
  type UiFlags,
} from "./options.ts";
import { prepareTrace, profiled, type ProfileFlags } from "./profiling.ts";
import { PromptCache } from "./prompt_cache.ts";
import { newTokensFor, type Reply, streamReply, timingLines } from "./reply.ts";
import { openSession, type Session } from "./session.ts";
import { Ui } from "./ui.ts";

interface GenerateFlags extends ModelFlags, DeviceFlags, SamplingFlags, CacheFlags, DraftFlags, ProfileFlags, UiFlags {
  prompt?: string;
  system?: string;
  chat?: boolean;
  /** A template of the user's, or false for none. */
  chatTemplate?: string | false;
  echo?: boolean;
}

const SINKS = 4; // first tokens that --max-kv-size keeps

const EXAMPLES = `
Examples:
  tensaur generate "Once upon a time"
  tensaur generate -n 100 --temp 0 "The old lighthouse"
  tensaur generate --seed 7 --stop "." -p "Mia found a"
  cat story.txt | tensaur generate -p -
  tensaur generate -m owner/name --system "Answer in one sentence." "Why is the sky blue?"
  tensaur generate --chat --json-schema '{"type":"object","properties":{"age":{"type":"integer"}}}' "How old?"
  tensaur generate --beams 4 "The old lighthouse"
  tensaur generate --temp 0 --draft models/tensaur-draft "Once upon a time"
  cat article.txt | tensaur generate --temp 0 --lookup -p -
  tensaur generate --prompt-cache-file story.cache -p - < story.txt
  tensaur generate --max-kv-size 256 -n 2000 "Once upon a time"
  tensaur generate --profile --trace trace.json "Once upon a time"

The text goes to stdout, speed and memory to stderr. Without --chat or --system the model simply goes on with the prompt.`;

/** The command. */
export function generateCommand(): Command {
  const command = new Command("generate")
    .description("generate text after a prompt")
    .argument("[prompt]", 'the prompt; "-" or none reads it from stdin')
    .option("-p, --prompt <text>", 'the prompt, as the argument; "-" reads it from stdin')
    .option("--chat", "put the prompt as a user's message into the model's chat template")
    .option("--system <text>", "begin the chat with this system message; implies --chat")
    .option("--chat-template <jinja>", "use this chat template, or the model's one of this name; implies --chat")
    .option("--no-chat-template", "do not use a chat template (the default without --chat)")
    .option("--echo", "print the prompt before the text (the default without --chat)")
    .option("--no-echo", "print the new text only (the default with --chat)")
    .option("--profile", "print a table of the time that each kernel takes")
    .option("--trace <file>", "write a trace of all kernels for ui.perfetto.dev")
    .addHelpText("after", EXAMPLES);
  const window = "keep the first 4 tokens and the last ones, so many in all: the text may go on for ever";
  addOutputOptions(addDeviceOptions(addModelOptions(addCacheOptions(addSamplingOptions(command), window))));
  return command.action(run);
}

async function run(argument: string | undefined, flags: GenerateFlags): Promise<void> {
  const ui = new Ui(flags);
  const chat = checkedChat(flags);
  checkCache(flags);
  const prompt = await readPrompt(argument, flags);
  await prepareTrace(flags);
  using interrupt = new Interrupt();
  let ids: number[] = [];
  const promptLength = async (tokenizer: Tokenizer) => {
    ids = chat ? await chatIds(tokenizer, prompt, flags) : tokenizer.encode(prompt);
    return ids.length;
  };
  using session = await openSession(flags, ui, { signal: interrupt.signal, task: "causal-lm", promptLength });
  const { model, tokenizer, device } = session;
  const sampling = samplingOf(flags);
  const maxNewTokens = newTokensFor(model, ids.length, flags, flags.maxKvSize ? Infinity : undefined);
  using kept = await PromptCache.open(model, flags.promptCacheFile);
  using window = windowOf(model, flags);
  const cache: Cache | undefined = window ?? (flags.promptCacheFile === undefined ? undefined : kept.cache);
  if (cache && !window) ui.detail(`cached      ${kept.keep(ids)} tokens of the prompt`);
  ui.detail(`seed        ${sampling.seed}`);
  const streams = !flags.json;
  if (streams && (flags.echo ?? !chat)) ui.print(ui.style("bold", prompt, Deno.stdout));
  const reply = await profiled(device, flags, ui, () =>
    streamReply(model, ids, {
      ...sampling,
      ...session.assistance,
      maxNewTokens,
      tokenizer,
      cache,
      interrupt,
      coldStart: true,
      onText: streams ? (text) => ui.print(text) : undefined,
    }));
  ui.bar.clear();
  if (streams && !reply.text.endsWith("\n")) ui.print("\n");
  if (!streams) ui.printJson(asJson(session, prompt, reply, sampling.seed));
  else showFigures(reply, maxNewTokens, ui);
  await kept.save(ids);
  ui.detail(`kernels     ${device.kernels.counters.pipelines} compiled, ${device.stream.counters.dispatches} runs`);
  if (reply.finishReason === "interrupted") throw new AbortError("Cannot go on with generating as Ctrl-C was pressed");
}

function showFigures({ timing, finishReason }: Reply, maxNewTokens: number, ui: Ui): void {
  ui.note("");
  for (const line of timingLines(timing)) ui.note(ui.style("dim", line));
  if (finishReason === "length") ui.note(ui.style("dim", `ended at    ${maxNewTokens} tokens; --max-tokens sets more`));
}

function checkedChat({ chat, system, chatTemplate }: GenerateFlags): boolean {
  const wanted = chat || system !== undefined || typeof chatTemplate === "string";
  if (!wanted || chatTemplate !== false) return wanted;
  throw new ValueError(
    "Cannot generate as --no-chat-template must stand without --chat and --system: they came together",
    { hint: "Write the instruction into the prompt itself." },
  );
}

/** A cache that serves one sequence alone, and is one of the two kinds. */
function checkCache({ maxKvSize, promptCacheFile, beams = 1 }: GenerateFlags): void {
  const given = [
    ...maxKvSize ? ["--max-kv-size"] : [],
    ...promptCacheFile !== undefined ? ["--prompt-cache-file"] : [],
  ];
  const against = [...given.slice(1), ...given.length && beams > 1 ? ["--beams"] : []];
  if (against.length === 0) return;
  throw new ValueError(
    `Cannot generate as ${given[0]} must stand without ${against.join(" and ")}: they came together`,
    {
      hint: "Leave one of them out.",
    },
  );
}

/** The cache of `--max-kv-size`. */
function windowOf({ cacheDtype: dtype }: Model, { maxKvSize }: GenerateFlags): SinkCache | undefined {
  return maxKvSize ? new SinkCache({ windowLength: maxKvSize, numSinkTokens: SINKS, dtype }) : undefined;
}

async function readPrompt(argument: string | undefined, { prompt }: GenerateFlags): Promise<string> {
  if (argument !== undefined && prompt !== undefined) {
    throw new ValueError("Cannot generate as there must be one prompt: an argument and --prompt came", {
      hint: "Quote a prompt of several words.",
    });
  }
  const given = argument ?? prompt;
  if (given !== undefined && given !== "-") return given;
  if (given === undefined && Deno.stdin.isTerminal()) {
    throw new ValueError("Cannot generate as there must be a prompt: none came", {
      hint: 'Try: tensaur generate "Once upon a time"',
    });
  }
  const text = (await new Response(Deno.stdin.readable).text()).replace(/\r?\n$/, ""); // the line end of `echo`
  if (text !== "") return text;
  throw new ValueError("Cannot generate as stdin must hold a prompt: it is empty", {
    hint: 'Pass the prompt: tensaur generate "Once upon a time"',
  });
}

async function chatIds(tokenizer: Tokenizer, prompt: string, { system, chatTemplate }: GenerateFlags) {
  const messages = [
    ...system === undefined ? [] : [{ role: "system", content: system }],
    { role: "user", content: prompt },
  ];
  const template = chatTemplate || undefined;
  return await tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true, chatTemplate: template });
}

function asJson({ name, model, loadSeconds }: Session, prompt: string, reply: Reply, seed: number) {
  return { model: name, dtype: model.dtype, seed, prompt, ...reply, loadSeconds };
}
