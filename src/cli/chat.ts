/**
 * `tensaur chat`: a conversation in the terminal, or one turn a line from a pipe.
 *
 * @module
 */
import { Command } from "commander";
import { TensaurError, throwIfAborted } from "../errors.ts";
import { Conversation, type Turn } from "./conversation.ts";
import { type ChatInput, openInput } from "./chat_input.ts";
import { type ChatState, isCommand, runCommand } from "./chat_commands.ts";
import { EXIT, exitCodeOf, reportError } from "./exit_code.ts";
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
import { PromptCache } from "./prompt_cache.ts";
import { streamReply, timingLines } from "./reply.ts";
import { openSession, type Session } from "./session.ts";
import { Ui } from "./ui.ts";

interface ChatFlags extends ModelFlags, DeviceFlags, SamplingFlags, CacheFlags, DraftFlags, UiFlags {
  system?: string;
  out?: string;
  chatTemplate?: string;
}

const WARM_UP = 8; // tokens: enough for the kernels of prompts to be among those that compile

const EXAMPLES = `
Examples:
  tensaur chat
  tensaur chat -m owner/name --system "Answer briefly."
  tensaur chat --json-schema @answer.json
  tensaur chat --temp 0 --draft models/tensaur-draft
  printf 'Hello!\\nTell me more.\\n' | tensaur chat --temp 0

/help lists what can be typed. Ctrl-C ends the answer, Ctrl-D or /bye the program. From a pipe each line is a turn.`;

/** The command. */
export function chatCommand(): Command {
  const command = new Command("chat")
    .description("talk with a model")
    .option("--system <text>", "begin with this system message")
    .option("--chat-template <jinja>", "use this chat template, or the model's one of this name")
    .option("-o, --out <file>", "the JSON file that /save writes the messages to")
    .addHelpText("after", EXAMPLES);
  const least = "forget the oldest messages beyond so many tokens, answer included";
  addOutputOptions(addDeviceOptions(addModelOptions(addCacheOptions(addSamplingOptions(command), least))));
  return command.action(run);
}

async function run(flags: ChatFlags): Promise<void> {
  const ui = new Ui(flags);
  using session = await openWarm(flags, ui);
  using input = openInput();
  const { system, chatTemplate, maxKvSize, promptCacheFile } = flags, { model, tokenizer } = session;
  const promptCache = await PromptCache.open(model, promptCacheFile);
  using conversation = new Conversation(model, tokenizer, { system, chatTemplate, maxKvSize, promptCache });
  const state: ChatState = { conversation, sampling: { ...flags }, assistance: session.assistance, out: flags.out };
  const prompt = ui.style("bold", ">>> ");
  if (input.terminal) ui.note(ui.style("dim", `${session.name}: type a message, or /help`));
  for (let message; (message = await nextMessage(input, prompt, ui)) !== undefined;) {
    if (message.trim() === "") continue;
    if (!isCommand(message)) {
      await answer(message, state, input, flags, ui);
      continue;
    }
    const told = await runCommand(message, state);
    if (told === undefined) break;
    ui.note(told);
  }
  await conversation.save();
}

/** Loads the model and compiles its kernels before anybody waits for an answer. */
async function openWarm(flags: ChatFlags, ui: Ui): Promise<Session> {
  using interrupt = new Interrupt();
  const session = await openSession(flags, ui, { signal: interrupt.signal, task: "causal-lm", promptLength: () => 32 });
  try {
    await streamReply(session.model, Array(WARM_UP).fill(0), {
      ...samplingOf(flags),
      ...session.assistance,
      maxNewTokens: 2,
      tokenizer: session.tokenizer,
      interrupt,
      coldStart: true,
    });
    throwIfAborted(interrupt.signal, "loading");
    ui.bar.clear();
    return session;
  } catch (error) {
    session[Symbol.dispose]();
    throw error;
  }
}

async function nextMessage(input: ChatInput, prompt: string, ui: Ui): Promise<string | undefined> {
  input.onInterrupt = () => ui.note("\nUse Ctrl-D or /bye to leave.");
  return await input.next(prompt);
}

/** Streams the answer to `message`; an error that leaves the model usable is told, and the chat goes on. */
async function answer(message: string, state: ChatState, input: ChatInput, flags: ChatFlags, ui: Ui): Promise<void> {
  using interrupt = new Interrupt();
  input.onInterrupt = () => interrupt.fire();
  const { conversation, sampling, assistance } = state;
  try {
    const turn = await conversation.say(message, {
      ...samplingOf(sampling),
      ...assistance,
      maxTokens: sampling.maxTokens,
      interrupt,
      onText: flags.json ? undefined : (text) => ui.print(text),
    });
    show(turn, flags, ui);
  } catch (error) {
    if (exitCodeOf(error) === EXIT.device || !(error instanceof TensaurError)) throw error;
    reportError(error, flags);
  }
}

function show(turn: Turn, flags: ChatFlags, ui: Ui): void {
  const { text, droppedMessages, cachedTokens, finishReason, timing } = turn;
  if (flags.json) ui.printJson({ role: "assistant", content: text, finishReason, cachedTokens, timing });
  else if (!text.endsWith("\n")) ui.print("\n");
  if (droppedMessages) ui.warn(`the model has no room for the ${droppedMessages} oldest messages: they were forgotten`);
  if (finishReason === "length") ui.detail("ended       at --max-tokens");
  ui.detail(`cached      ${cachedTokens} tokens`);
  for (const line of timingLines(timing)) ui.detail(line);
}
