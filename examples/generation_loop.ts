/**
 * Greedy generation by hand: one forward pass for the prompt, one for each token, keys and values kept in a cache.
 *
 *     deno run -A examples/generation_loop.ts "Once upon a time"
 */
import { type Cache, loadModel, loadTokenizer, type Model } from "../mod.ts";

/** The prompt and `maxNewTokens` tokens after it. */
export async function generationLoop(
  model: Model,
  prompt: readonly number[],
  maxNewTokens: number,
  cache: Cache = model.newCache(),
): Promise<number[]> {
  const ids = [...prompt];
  let inputIds = [[...prompt]];
  let cachePosition = prompt.map((_, i) => i); // [0, 1, … n - 1]
  for (let step = 0; step < maxNewTokens; step++) {
    using outputs = await model.forward({ inputIds }, { cache, cachePosition });
    const logits = await outputs.logits!.read(), vocabSize = outputs.logits!.shape[2]!;
    const last = logits.subarray(logits.length - vocabSize);
    const next = last.indexOf(Math.max(...last));
    ids.push(next);
    inputIds = [[next]]; // the cache holds the rest
    cachePosition = [cachePosition.at(-1)! + 1];
  }
  return ids;
}

if (import.meta.main) {
  const folder = new URL("../models/tensaur-tiny", import.meta.url).pathname;
  using model = await loadModel(folder);
  const tokenizer = await loadTokenizer(folder);
  const { inputIds: [prompt = []] } = tokenizer(Deno.args[0] ?? "Once upon a time");
  using cache = model.newCache();
  console.log(tokenizer.decode(await generationLoop(model, prompt, 40, cache), { skipSpecialTokens: true }));
}
