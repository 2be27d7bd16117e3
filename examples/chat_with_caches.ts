/**
 * A chat whose cache stays from turn to turn: each turn passes the whole conversation, and only what is new is computed.
 *
 *     deno run -A examples/chat_with_caches.ts
 */
import {
  type Cache,
  DynamicCache,
  generate,
  HybridCache,
  loadModel,
  loadTokenizer,
  type Model,
  OffloadedCache,
  OffloadedStaticCache,
  PagedCache,
  QuantizedCache,
  SinkCache,
  SlidingWindowCache,
  StaticCache,
  type Tokenizer,
} from "../mod.ts";

/** A cache, and how many tokens it takes at once, where it says so. */
export type ChatCache = Cache & { getMaxCacheShape?(): number | null };

/** A cache of each kind that any decoder can have; a model of states has `model.newCache()`, a MambaCache. */
export const CACHES: Readonly<Record<string, () => ChatCache>> = {
  dynamic: () => new DynamicCache(),
  static: () => new StaticCache({ maxCacheLen: 512 }),
  sliding_window: () => new SlidingWindowCache({ slidingWindow: 512 }),
  hybrid: () => new HybridCache({ maxCacheLen: 512 }),
  offloaded: () => new OffloadedCache(),
  offloaded_static: () => new OffloadedStaticCache({ maxCacheLen: 512 }),
  paged: () => new PagedCache(),
  quantized: () => new QuantizedCache({ nbits: 8 }),
  sink: () => new SinkCache({ windowLength: 256, numSinkTokens: 4 }),
};

/** The answers to `questions`, asked one after the other; without a cache each turn computes all of it anew. */
export async function chat(
  model: Model,
  tokenizer: Tokenizer,
  cache: ChatCache | undefined,
  questions: readonly string[],
  maxNewTokens = 24,
): Promise<string[]> {
  const messages: { role: "user" | "assistant"; content: string }[] = [], answers: string[] = [];
  const most = cache?.getMaxCacheShape?.() ?? Infinity, prefillChunkSize = Math.min(128, Math.ceil(most / 2));
  let held: number[] = [], from = 0; // what the cache was given, and where in the conversation that begins
  for (const content of questions) {
    messages.push({ role: "user", content });
    const all = await tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true, tokenize: true }) as number[];
    if (!held.every((id, i) => id === all[from + i])) cache?.reset(); // the answer's text has other tokens
    const isFirst = !cache?.lengths.some((n) => n > 0);
    // a cache of a window takes no first input that is longer: its last tokens then
    if (isFirst) from = Math.max(0, all.length - most);
    const ids = all.slice(from), options = { cache, maxNewTokens, doSample: false, prefillChunkSize };
    const { sequences: [row = []] } = await generate(model, { inputIds: [ids] }, options);
    held = row;
    const answer = tokenizer.decode(row.slice(ids.length), { skipSpecialTokens: true });
    messages.push({ role: "assistant", content: answer });
    answers.push(answer);
  }
  return answers;
}

if (import.meta.main) {
  const folder = new URL("../models/tensaur-tiny", import.meta.url).pathname;
  using model = await loadModel(folder);
  const tokenizer = await loadTokenizer(folder);
  for (const [name, make] of Object.entries(CACHES)) {
    using cache = make();
    console.log(name, await chat(model, tokenizer, cache, ["Who are you?", "Tell me a story."]));
  }
}
