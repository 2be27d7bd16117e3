/**
 * One prompt, computed once, for many continuations: each forks its cache, which copies nothing until it is written to.
 *
 *     deno run -A examples/prompt_cache.ts
 */
import {
  type Cache,
  loadModel,
  loadTokenizer,
  type Model,
  PagedCache,
  resilientGenerate,
  StaticCache,
  type Tokenizer,
} from "../mod.ts";

/** What the model says after `prompt` and each of `questions`; `cache` is filled with the prompt, and stays. */
export async function continuations(
  model: Model,
  tokenizer: Tokenizer,
  cache: Cache,
  prompt: string,
  questions: readonly string[],
  maxNewTokens = 16,
): Promise<string[]> {
  const ids = (text: string) => tokenizer(text).inputIds[0] ?? [];
  const inputIds = [ids(prompt)], answers: string[] = [];
  (await model.forward({ inputIds }, { cache }))[Symbol.dispose]();
  for (const question of questions) {
    using fork = cache.fork();
    const whole = ids(prompt + question); // generate() computes what the cache does not have
    const options = { cache: fork, maxNewTokens, doSample: false };
    const { sequences: [row = []] } = await resilientGenerate(model, { inputIds: [whole] }, options);
    answers.push(tokenizer.decode(row.slice(whole.length), { skipSpecialTokens: true }));
  }
  return answers;
}

if (import.meta.main) {
  const folder = new URL("../models/tensaur-tiny", import.meta.url).pathname;
  using model = await loadModel(folder);
  const tokenizer = await loadTokenizer(folder);
  for (const cache of [new PagedCache({ dtype: model.cacheDtype }), new StaticCache({ maxCacheLen: 256 })]) {
    using prefix = cache;
    const endings = [" a king", " a girl", " an old house"];
    console.log(await continuations(model, tokenizer, prefix, "Once upon a time there was", endings));
  }
}
