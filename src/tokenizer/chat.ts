/**
 * Conversations to prompts: which template, which variables.
 *
 * @module
 */
import { TemplateError, ValueError } from "../errors.ts";
import { renderChatTemplate } from "./chat_template.ts";

/** A message of a conversation; templates read further keys (`tool_calls`, `name`, …) where models have them. */
export interface ChatMessage {
  /** Who speaks: "system", "user", "assistant", "tool", … */
  role: string;
  /** What is said: text, or parts such as `{ type: "text", text: "…" }`. */
  content?: unknown;
  /** What else the template reads. */
  [key: string]: unknown;
}

/** How to make a prompt of a conversation. */
export interface ChatTemplateOptions {
  /** End with the beginning of the assistant's answer; default false. */
  addGenerationPrompt?: boolean;
  /** Leave the last message open, so that the model goes on with it; default false. */
  continueFinalMessage?: boolean;
  /** Return ids (true, the default) or the text. */
  tokenize?: boolean;
  /** A Jinja template of your own, or the name of one of the tokenizer's templates. */
  chatTemplate?: string;
  /** Functions that the model may call, as JSON schemas. */
  tools?: readonly Record<string, unknown>[];
  /** Documents to answer from, by "title" and "text". */
  documents?: readonly Record<string, unknown>[];
  /** Further variables of the template, such as `{ enable_thinking: false }`. */
  templateVariables?: Record<string, unknown>;
}

/** The templates of a tokenizer: one, several by name, or none. */
export type ChatTemplates = string | Readonly<Record<string, string>> | null;

const CONTINUE = "CONTINUE_FINAL_MESSAGE_TAG ";

/**
 * Renders a conversation.
 *
 * @param specialTokens the variables `bos_token`, `eos_token`, …
 * @param trust whether the template's author is trusted
 */
export async function renderChat(
  templates: ChatTemplates,
  messages: readonly ChatMessage[],
  specialTokens: Record<string, string>,
  options: ChatTemplateOptions,
  trust: boolean,
): Promise<string> {
  if (messages.length === 0) {
    throw new ValueError("Cannot apply the chat template as a conversation must have a message: it is empty");
  }
  if (options.addGenerationPrompt && options.continueFinalMessage) {
    throw new ValueError(
      "Cannot apply the chat template as one of addGenerationPrompt and continueFinalMessage must be false: both are true",
    );
  }
  const source = chooseTemplate(templates, options);
  // Many APIs write null for what a message does not have; templates test for the key.
  const plain = messages.map((message) =>
    namedReasoning(Object.fromEntries(Object.entries(message).filter(([, v]) => v !== null)))
  );
  const final = options.continueFinalMessage ? tagFinalMessage(plain) : undefined;
  const own = source === options.chatTemplate; // the caller's own template is not the model's
  const text = await renderChatTemplate(source, {
    messages: plain,
    tools: options.tools ?? null,
    documents: options.documents ?? null,
    add_generation_prompt: options.addGenerationPrompt ?? false,
    ...specialTokens,
    ...options.templateVariables,
  }, trust && !own);
  return final === undefined ? text : cutAtTag(text, final);
}

/** A message whose reasoning has the names that templates read, whichever it came by. */
function namedReasoning(message: Record<string, unknown>): Record<string, unknown> {
  const reasoning = message.reasoning_content ?? message.thinking ?? message.reasoning;
  return reasoning === undefined ? message : { thinking: reasoning, ...message, reasoning_content: reasoning };
}

function chooseTemplate(templates: ChatTemplates, { chatTemplate, tools }: ChatTemplateOptions): string {
  const named = templates !== null && typeof templates === "object" ? new Map(Object.entries(templates)) : new Map();
  if (chatTemplate !== undefined) return named.get(chatTemplate) ?? chatTemplate;
  if (typeof templates === "string") return templates;
  const chosen = (tools && named.get("tool_use")) ?? named.get("default");
  if (chosen !== undefined) return chosen;
  throw new TemplateError(
    templates === null
      ? "Cannot apply a chat template as the tokenizer must have one: it has none"
      : `Cannot apply a chat template as one of the tokenizer's must be chosen: it has ${[...named.keys()].join(", ")}`,
    { hint: "Pass chatTemplate." },
  );
}

/** Marks the end of the last message's text; returns that text. */
function tagFinalMessage(messages: Record<string, unknown>[]): string {
  const last = messages.at(-1)!;
  if (typeof last.content === "string") {
    const text = last.content;
    last.content = text + CONTINUE;
    return text;
  }
  const parts = Array.isArray(last.content) ? structuredClone(last.content) as Record<string, unknown>[] : [];
  const part = parts.findLast((each) => typeof each?.text === "string");
  if (!part) {
    throw new ValueError("Cannot continue the final message as it must have a text: it has none");
  }
  const text = part.text as string;
  part.text = text + CONTINUE;
  last.content = parts;
  return text;
}

function cutAtTag(text: string, final: string): string {
  const at = text.lastIndexOf(CONTINUE.trim());
  if (at < 0 || !text.includes(final.trim())) {
    throw new TemplateError("Cannot continue the final message as the chat template must print it whole: it does not");
  }
  const before = text.slice(0, at);
  return text.startsWith(CONTINUE, at) ? before : before.trimEnd();
}
