/**
 * What can be typed in a chat beside messages: /help, /clear, /system, /set, /save, /bye.
 *
 * @module
 */
import { InvalidArgumentError } from "commander";
import type { Conversation } from "./conversation.ts";
import type { Session } from "./session.ts";
import { number, type SamplingFlags, whole } from "./options.ts";

/** What commands change. */
export interface ChatState {
  conversation: Conversation;
  sampling: SamplingFlags;
  assistance: Session["assistance"];
  /** Where /save writes if no file is named. */
  out?: string;
}

const HELP = `/clear               forget what was said
/system [text]       set the system message and begin anew; without a text, remove it
/set NAME [value]    set temp, top-k, top-p, min-p, repeat-penalty, seed, max-tokens, beams or lookup; without a value,
                     the default
/save [file]         write the messages to a JSON file; without a name, to that of --out
/bye                 leave; so do /exit, /quit and Ctrl-D
"""                  begin a message of several lines, and end it
Ctrl-C               end the answer`;

type SettingName = Exclude<keyof SamplingFlags, "stop" | "ignoreEos" | "jsonSchema">;

const SETTINGS: Readonly<Record<string, [SettingName, (text: string) => number]>> = {
  "temp": ["temp", number(0)],
  "top-k": ["topK", whole(0)],
  "top-p": ["topP", number(0, 1)],
  "min-p": ["minP", number(0, 1)],
  "repeat-penalty": ["repeatPenalty", number(0)],
  "seed": ["seed", whole(0)],
  "max-tokens": ["maxTokens", whole(1)],
  "beams": ["beams", whole(1)],
  "lookup": ["lookup", whole(1)],
};

/** Whether `message` is a command: a slash and a word. */
export function isCommand(message: string): boolean {
  return /^\/[a-z?]/i.test(message);
}

/** Runs a command; returns what to tell the user, or undefined to leave. */
export async function runCommand(message: string, state: ChatState): Promise<string | undefined> {
  const [, name = "", rest = ""] = /^\/(\S+)\s*([^]*)$/.exec(message.trim()) ?? [];
  const { conversation } = state;
  switch (name) {
    case "bye":
    case "exit":
    case "quit":
      return undefined;
    case "help":
    case "?":
      return HELP;
    case "clear":
      conversation.clear();
      return "Forgot what was said.";
    case "system":
      conversation.system = rest || undefined;
      conversation.clear();
      return rest ? "Set the system message." : "Removed the system message.";
    case "set":
      return set(state.sampling, rest);
    case "save":
      return await save(conversation, rest || state.out);
    default:
      return `There is no command /${name}. /help lists them.`;
  }
}

/** A file that cannot be written is told, and the chat goes on. */
async function save({ messages, system }: Conversation, path: string | undefined): Promise<string> {
  if (path === undefined) return "Name the file when you start: --out chat.json.";
  const all = [...system === undefined ? [] : [{ role: "system", content: system }], ...messages];
  try {
    await Deno.writeTextFile(path, `${JSON.stringify(all, null, 2)}\n`);
    return `Wrote ${all.length} messages to ${path}.`;
  } catch (error) {
    const hint = error instanceof Deno.errors.NotCapable ? ` Start the chat with --out ${path} to permit it.` : "";
    return `Cannot write ${path}: ${(error as Error).message}.${hint}`;
  }
}

function set(sampling: SamplingFlags, text: string): string {
  const [name = "", value = ""] = text.split(/\s+/);
  const setting = Object.hasOwn(SETTINGS, name) ? SETTINGS[name] : undefined;
  if (!setting) return `There is nothing to set as "${name}": it must be one of ${Object.keys(SETTINGS).join(", ")}.`;
  const [key, parse] = setting;
  try {
    sampling[key] = value === "" ? undefined : parse(value);
  } catch (error) {
    if (error instanceof InvalidArgumentError) return error.message;
    throw error;
  }
  return value === "" ? `Set ${name} back to its default.` : `Set ${name} to ${value}.`;
}
