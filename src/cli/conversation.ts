/**
 * A chat with a model that computes only what is new in each turn.
 *
 * @module
 */
import type { Cache } from "../cache/mod.ts";
import { ValueError } from "../errors.ts";
import type { Model } from "../models/mod.ts";
import type { ChatMessage, Tokenizer } from "../tokenizer/mod.ts";
import { type PromptCache, sharedPrefix } from "./prompt_cache.ts";
import { newTokensFor, type Reply, type ReplyOptions, streamReply } from "./reply.ts";

/** How a {@linkcode Conversation} begins. */
export interface ConversationOptions {
  /** The system message. */
  system?: string;
  /** A chat template instead of the tokenizer's. */
  chatTemplate?: string;
  /** Most tokens of a turn, answer included. Default: the model's positions. */
  maxKvSize?: number;
  /** Where keys and values come from, and go to. Default: an empty cache; it is the conversation's. */
  promptCache?: PromptCache;
}

/** What a turn gave. */
export interface Turn extends Reply {
  /** Tokens of the conversation that were in the cache already. */
  cachedTokens: number;
  /** Messages at the beginning that were left out, as the model has no room for them. */
  droppedMessages: number;
}

// Room for an answer that a long conversation must leave, as a part of the model's positions.
const ANSWER_SHARE = 1 / 4;

/** Messages, and the cache of their keys and values. */
export class Conversation implements Disposable {
  /** What has been said, without the system message. */
  readonly messages: ChatMessage[] = [];
  /** The system message. */
  system: string | undefined;
  readonly #model: Model;
  readonly #tokenizer: Tokenizer;
  readonly #template: string | undefined;
  readonly #positions: number;
  readonly #file: PromptCache | undefined;
  readonly #cache: Cache;
  /** The ids that the cache holds, and maybe one more. */
  #ids: number[] = [];

  /** A conversation of no messages. */
  constructor(model: Model, tokenizer: Tokenizer, options: ConversationOptions = {}) {
    const { system, chatTemplate, maxKvSize = Infinity, promptCache } = options;
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.system = system;
    this.#template = chatTemplate;
    this.#positions = Math.min(maxKvSize, model.sizes.maxPositionEmbeddings);
    this.#file = promptCache;
    this.#cache = promptCache?.cache ?? model.newCache();
    this.#ids = [...promptCache?.ids ?? []];
  }

  /**
   * Says `text` to the model and streams its answer. An answer that is interrupted stays as far as it came; one that
   * fails leaves no trace.
   *
   * @throws {TemplateError} if there is no chat template, or it refuses the messages
   * @throws {ValueError} if `text` alone is too long
   */
  async say(text: string, options: ReplyOptions & { maxTokens?: number }): Promise<Turn> {
    this.messages.push({ role: "user", content: text });
    try {
      const { maxTokens, ...generation } = options;
      const { ids, droppedMessages } = await this.#fit();
      const cachedTokens = this.#keepPrefix(ids);
      const maxNewTokens = newTokensFor(this.#model, ids.length, { maxTokens }, this.#positions);
      const reply = await streamReply(this.#model, ids, {
        ...generation,
        maxNewTokens,
        tokenizer: this.#tokenizer,
        cache: this.#cache,
      });
      this.#ids = [...ids, ...reply.tokens];
      this.messages.splice(0, droppedMessages);
      this.messages.push({ role: "assistant", content: reply.text });
      return { ...reply, cachedTokens, droppedMessages };
    } catch (error) {
      this.messages.pop();
      throw error;
    }
  }

  /** Forgets all messages; the system message stays. */
  clear(): void {
    this.messages.length = 0;
  }

  /** Writes the cache to its file, if it has one. */
  async save(): Promise<void> {
    await this.#file?.save(this.#ids);
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.#cache[Symbol.dispose]();
  }

  /** Ids of the conversation, without as many of its oldest turns as there is no room for. */
  async #fit(): Promise<{ ids: number[]; droppedMessages: number }> {
    const most = Math.floor(this.#positions * (1 - ANSWER_SHARE));
    for (let dropped = 0;; dropped += 2) { // a question goes with its answer
      const ids = await this.#encode(this.messages.slice(dropped));
      if (ids.length <= most || dropped + 1 >= this.messages.length) return { ids, droppedMessages: dropped };
    }
  }

  async #encode(messages: readonly ChatMessage[]): Promise<number[]> {
    const system = this.system === undefined ? [] : [{ role: "system", content: this.system }];
    const options = { addGenerationPrompt: true, chatTemplate: this.#template, tokenize: true } as const;
    const ids = await this.#tokenizer.applyChatTemplate([...system, ...messages], options);
    if (ids.length > 0) return ids;
    throw new ValueError("Cannot chat as the chat template must give a prompt: it gives an empty one");
  }

  /** Cuts the cache down to what it has in common with `ids`; returns how many of them it then holds. */
  #keepPrefix(ids: readonly number[]): number {
    const [held] = this.#cache.lengths;
    if (held === undefined) return 0;
    const shared = sharedPrefix(this.#ids.slice(0, held), ids.slice(0, -1));
    this.#cache.crop([shared]);
    return shared;
  }
}
