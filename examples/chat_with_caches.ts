/**
 * A chat whose cache stays from turn to turn: each turn passes the whole conversation, and only what is new is computed.
 *
 *     deno run -A examples/chat_with_caches.ts
 */
import {
  DynamicCache,
  generate,
  HybridCache,
  type KvCache,
  loadModel,
  loadTokenizer,
  type Model,
  OffloadedCache,
  PagedCache,
  QuantizedCache,
  SinkCache,
  StaticCache,
  type Tokenizer,
} from "../mod.ts";

/** A cache of each kind that any decoder can have. */
export const CACHES: Readonly<Record<string, () => KvCache>> = {
  dynamic: () => new DynamicCache(),
  static: () => new StaticCache({ maxCacheLen: 512 }),
  hybrid: () => new HybridCache({ maxCacheLen: 512 }),
  offloaded: () => new OffloadedCache(),
  paged: () => new PagedCache(),
  quantized: () => new QuantizedCache({ nbits: 8 }),
  sink: () => new SinkCache({ windowLength: 256, numSinkTokens: 4 }),
};

/** The answers to `questions`, asked one after the other. */
export async function chat(
  model: Model,
  tokenizer: Tokenizer,
  cache: KvCache,
  questions: readonly string[],
  maxNewTokens = 24,
): Promise<string[]> {
  const messages: { role: "user" | "assistant"; content: string }[] = [], answers: string[] = [];
  for (const content of questions) {
    messages.push({ role: "user", content });
    const ids = await tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true, tokenize: true }) as number[];
    // a cache of a window takes no first input that is longer: its last tokens then
    const inputIds = [cache.lengths.length ? ids : ids.slice(-(cache.getMaxCacheShape() ?? ids.length))];
    const { sequences: [row = []] } = await generate(model, { inputIds }, { cache, maxNewTokens, doSample: false });
    const answer = tokenizer.decode(row.slice(inputIds[0]!.length), { skipSpecialTokens: true });
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
