// Turns of a chat on the embedded model: what runs again, and what is said.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Conversation } from "../../src/cli/conversation.ts";
import { PromptCache } from "../../src/cli/prompt_cache.ts";
import { Interrupt } from "../../src/cli/interrupt.ts";
import { ValueError } from "../../src/errors.ts";
import { generate } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { testDevice } from "../helpers.ts";

const path = new URL("../../models/tensaur-tiny", import.meta.url).pathname;
const device = await testDevice();
const model = await loadModel(path, { device, dtype: "float32" });
const tokenizer = await loadTokenizer(path);
const options = { doSample: false, maxTokens: 24 } as const;

// The tokens of each pass of a prompt; steps of one token are recorded once and not counted.
const passes: number[] = [];
const nextLogits = model.nextLogits.bind(model);
model.nextLogits = (batch, cache) => {
  if (batch.total > 1) passes.push(batch.total);
  return nextLogits(batch, cache);
};

/** The answer to `messages` by a generation that knows no cache. */
async function withoutCache(messages: { role: string; content: string }[]): Promise<number[]> {
  const ids = await tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true, tokenize: true });
  const { sequences } = await generate(model, { inputIds: [ids] }, { doSample: false, maxNewTokens: 24 });
  passes.pop();
  return sequences[0]!.slice(ids.length);
}

Deno.test("Conversation runs only what is new, and says what it would say without a cache", async () => {
  using conversation = new Conversation(model, tokenizer, { system: "You tell stories." });
  const messages = [{ role: "system", content: "You tell stories." }];
  passes.length = 0;
  let held = 0;
  for (const content of ["Tell me about a fox.", "What is 7 plus 5?", "Was the fox red?"]) {
    messages.push({ role: "user", content });
    const turn = await conversation.say(content, options);
    const ids = await tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true, tokenize: true });
    assertEquals(passes, [ids.length - turn.cachedTokens], "the prompt ran without its cached part");
    assertEquals(turn.timing.promptTokens, ids.length - turn.cachedTokens);
    assert(turn.cachedTokens >= held, `${turn.cachedTokens} of ${held} tokens were kept`);
    assertEquals(turn.tokens, await withoutCache(messages));
    messages.push({ role: "assistant", content: turn.text });
    held = ids.length; // the answer's text may be tokenized in another way than it was generated
    passes.length = 0;
  }
});

Deno.test("a conversation goes on from the cache that another one left in a file, and forgets beyond maxKvSize", async () => {
  const dir = await Deno.makeTempDir(), path = `${dir}/chat.cache`, question = "Tell me about a fox.";
  try {
    const say = async (text: string, maxKvSize?: number) => {
      using conversation = new Conversation(model, tokenizer, {
        promptCache: await PromptCache.open(model, path),
        maxKvSize,
      });
      const turn = await conversation.say(text, options);
      await conversation.save();
      return turn;
    };
    const first = await say(question), again = await say(question);
    const ids = await tokenizer.applyChatTemplate([{ role: "user", content: question }], { addGenerationPrompt: true });
    assertEquals([first.cachedTokens, again.cachedTokens], [0, ids.length - 1]);
    assertEquals(again.tokens, first.tokens);
    assertEquals((await say(question, ids.length + 3)).tokens, first.tokens.slice(0, 3));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("Conversation crops the cache where another conversation begins to differ", async () => {
  using conversation = new Conversation(model, tokenizer);
  await conversation.say("Tell me about a fox.", options);
  conversation.clear();
  const again = await conversation.say("Tell me about a cat.", options);
  const shared = await tokenizer.applyChatTemplate([{ role: "user", content: "Tell me about a" }]);
  assertEquals(again.cachedTokens, shared.length - 2, "all but the end of the message and its line");
  assertEquals(again.tokens, await withoutCache([{ role: "user", content: "Tell me about a cat." }]));
  conversation.clear();
  const same = await conversation.say("Tell me about a cat.", options);
  assertEquals([same.timing.promptTokens, same.tokens], [1, again.tokens], "the last token of a prompt runs again");
});

Deno.test("Conversation keeps an interrupted answer as far as it came", async () => {
  using conversation = new Conversation(model, tokenizer);
  using interrupt = new Interrupt();
  const turn = await conversation.say("Tell me about a fox.", {
    ...options,
    interrupt,
    onText: () => interrupt.signal.aborted || interrupt.fire(),
  });
  assertEquals(turn.finishReason, "interrupted");
  assert(turn.tokens.length < 24);
  assertEquals(conversation.messages.at(-1), { role: "assistant", content: turn.text });
  const next = await conversation.say("Go on.", options);
  const [question, answer] = conversation.messages as { role: string; content: string }[];
  assertEquals(next.tokens, await withoutCache([question!, answer!, { role: "user", content: "Go on." }]));
});

Deno.test("Conversation forgets its oldest turns where the model has no room", async () => {
  using conversation = new Conversation(model, tokenizer);
  const long = "The fox ran over the hill and the cat sat on the mat. ".repeat(18); // about 300 of 1024 tokens
  const dropped: number[] = [];
  for (const text of [long, long, long, "Hi"]) {
    dropped.push((await conversation.say(text, { ...options, maxTokens: 2 })).droppedMessages);
  }
  assertEquals(dropped, [0, 0, 2, 0]);
  assertEquals(conversation.messages.length, 6);
  await assertRejects(() => conversation.say(long.repeat(4), options), ValueError, "1024 positions");
  assertEquals(conversation.messages.length, 6, "what failed left no trace");
});

Deno.test("at the end the model and the device are closed", () => {
  model.dispose();
  device.close();
});
