/** Token healing: a prompt that ends within a word goes on with a token that begins as its last one does. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { NotSupportedError, ValueError } from "../../src/errors.ts";
import { generate } from "../../src/generation/mod.ts";
import { loadModel, type Model } from "../../src/models/mod.ts";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

const device = await testDevice();
const model = await loadModel(embedded("tensaur-tiny"), { device, dtype: "float32" });
const tokenizer = await loadTokenizer(embedded("tensaur-tiny"));
const V = model.sizes.vocabSize, ids = Array.from({ length: V }, (_, id) => id);
const texts = tokenizer.convertIdsToTokens(ids);
const special = tokenizer.convertTokensToIds(["<|begin_of_text|>"])[0]!;
const greedy = { maxNewTokens: 1, eosTokenId: null, padTokenId: 0, doSample: false, tokenizer } as const;

/** The token to which the definition heals the last of `row`. */
async function wanted(row: number[]): Promise<number> {
  const tail = row.at(-1)!, before = row.length > 1 ? row.slice(0, -1) : [special];
  const { logits } = await generate(model, { inputIds: [before] }, { ...greedy, outputLogits: true });
  const value = (id: number) => logits![0]![id]! + (id === tail ? 1 : 0);
  return ids.filter((id) => id !== special && texts[id]!.startsWith(texts[tail]!))
    .reduce((best, id) => value(id) > value(best) ? id : best, tail);
}

const PROMPTS = ["Once upon a ti", "The cat sat on the m", "The old lighth", "She wen", "He was very ha", "h"];
const rows = PROMPTS.map((text) => tokenizer.encode(text));

Deno.test("tokenHealing takes the likeliest token that begins as the last one does, a bit rather the last one itself", async () => {
  const want = [];
  for (const row of rows) want.push([...row.slice(0, -1), await wanted(row)]);
  const { sequences } = await generate(model, { inputIds: rows }, { ...greedy, tokenHealing: true });
  assertEquals(sequences.map((row, b) => row.slice(0, rows[b]!.length)), want);
  assert(want.some((row, b) => row.at(-1) !== rows[b]!.at(-1)), "something was healed");
  for (const [b, row] of want.entries()) {
    const healed = await generate(model, { inputIds: [row] }, greedy);
    assertEquals(sequences[b]!.slice(0, row.length + 1), healed.sequences[0], "it goes on from the healed prompt");
  }
});

Deno.test("tokenHealing finds the last token before padding, and leaves special ones and those that begin no other", async () => {
  const [row = []] = rows,
    pad = 0,
    alone = ids.find((id) => {
      return texts[id]! && ids.every((other) => other === id || !texts[other]!.startsWith(texts[id]!));
    })!;
  const inputIds = [[...row, pad, pad], [5, alone], [5, special]], width = row.length + 2;
  const attentionMask = [[...row.map(() => 1), 0, 0], [1, 1], [1, 1]];
  const { sequences } = await generate(model, { inputIds, attentionMask }, { ...greedy, tokenHealing: true });
  const want = [[...row.slice(0, -1), await wanted(row), pad, pad], [5, alone], [5, special]];
  assertEquals(sequences.map((ids, b) => ids.slice(0, Math.min(width, want[b]!.length))), want);
});

Deno.test("tokenHealing refuses to work without a tokenizer, or with an encoder, and runs nothing", async () => {
  const { dispatches } = device.stream.counters, inputs = { inputIds: rows };
  const run = (on: Model, more: object) => () => generate(on, inputs, { ...greedy, tokenHealing: true, ...more });
  const error = await assertRejects(run(model, { tokenizer: undefined }), ValueError);
  assertEquals(
    error.message,
    "When generating with token healing, you must pass the model's tokenizer to the `tokenizer` argument of `generate`.",
  );
  const encoder = new Proxy(model, {
    get: (target, name) => name === "isEncoderDecoder" || Reflect.get(target, name, target),
  });
  await assertRejects(run(encoder, { decoderStartTokenId: 5 }), NotSupportedError, "must have no encoder");
  assertEquals(device.stream.counters.dispatches, dispatches);
});
