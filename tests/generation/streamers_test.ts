/** Streamers without a model: what is shown when, and that it adds up to the decoded text. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { TimeoutError, ValueError } from "../../src/errors.ts";
import { generate, TextIteratorStreamer, TextStreamer, type TextStreamerOptions } from "../../src/generation/mod.ts";
import { loadModel } from "../../src/models/mod.ts";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { testDevice } from "../helpers.ts";
import { embedded } from "./models.ts";

/** One token a code point; 0 is a special one. */
const codec = {
  decode: (ids: readonly number[], { skipSpecialTokens }: { skipSpecialTokens?: boolean } = {}) =>
    ids.flatMap((id) => id === 0 ? skipSpecialTokens ? [] : ["<s>"] : [String.fromCodePoint(id)]).join(""),
  tokenStream: () => ({ put: () => "", end: () => "" }),
};
const ids = (text: string) => [...text].map((c) => c.codePointAt(0)!);

class Recorder extends TextStreamer {
  readonly heard: [string, boolean][] = [];
  override onFinalizedText(text: string, streamEnd: boolean): void {
    this.heard.push([text, streamEnd]);
  }
}

const SHOWN: [name: string, puts: string[], want: string[], options?: TextStreamerOptions][] = [
  ["words come when they are whole", ["The ca", "t s", "at"], ["The ", "cat ", "", "sat"]],
  ["a new line shows all before it", ["a\n", "b c", "\n"], ["a\n", "b ", "c\n", ""]],
  ["Chinese needs no spaces", ["我", "们a", "b"], ["我", "", "", "们ab"]],
  ["so do characters of two code units", ["\u{20000}", "x"], ["\u{20000}", "", "x"]],
  ["the prompt is left out", ["The cat ", "sat ", "on"], ["sat ", "", "on"], { skipPrompt: true }],
  ["special tokens are left out", ["\0a ", "\0b"], ["a ", "", "b"], { skipSpecialTokens: true }],
  ["or shown", ["\0a "], ["<s>a ", ""]],
  ["nothing at all", [], [""]],
];

for (const [name, puts, want, options] of SHOWN) {
  Deno.test(`TextStreamer: ${name}`, () => {
    const streamer = new Recorder(codec, options);
    for (let run = 0; run < 2; run++) { // it can be used again
      streamer.heard.length = 0;
      for (const text of puts) streamer.put([ids(text)]);
      streamer.end();
      assertEquals(streamer.heard.map(([text]) => text), want);
      assertEquals(streamer.heard.map(([, end]) => end), want.map((_, i) => i === want.length - 1));
    }
  });
}

Deno.test("TextStreamer takes one row only", () => {
  assertThrows(
    () => new Recorder(codec).put([[1], [2]]),
    ValueError,
    "TextStreamer only supports batch size 1",
  );
});

Deno.test("TextIteratorStreamer gives what was put before, and what is put while it waits", async () => {
  const streamer = new TextIteratorStreamer(codec);
  streamer.put([ids("a b")]);
  const pieces: string[] = [];
  const reader = (async () => {
    for await (const piece of streamer) pieces.push(piece);
  })();
  await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(pieces, ["a "]);
  streamer.put([ids(" c")]);
  streamer.end();
  await reader;
  assertEquals(pieces.join(""), "a b c");
});

Deno.test("TextIteratorStreamer waits no longer than its timeout", async () => {
  const streamer = new TextIteratorStreamer(codec, { timeout: 10 });
  streamer.put([ids("a ")]);
  const heard: string[] = [];
  await assertRejects(async () => {
    for await (const piece of streamer) heard.push(piece);
  }, TimeoutError);
  assertEquals(heard, ["a "]);
});

const device = await testDevice();
const model = await loadModel(embedded("tensaur-draft"), { device });
const tokenizer = await loadTokenizer(embedded("tensaur-draft"));
const inputs = { inputIds: [tokenizer.encode("The cat")] };
const options = { maxNewTokens: 12, eosTokenId: null, doSample: false } as const;

for (const [name, more] of Object.entries({ greedy: {}, "an assistant": { assistantModel: model } })) {
  Deno.test(`what is streamed is what is decoded, with ${name}`, async () => {
    const streamer = new TextIteratorStreamer(tokenizer), pieces: string[] = [];
    const run = generate(model, inputs, { ...options, ...more, streamer });
    for await (const piece of streamer) pieces.push(piece);
    assertEquals(pieces.join(""), tokenizer.decode((await run).sequences[0]!));
    assert(pieces.length > 2);
  });
}

Deno.test("a streamer is ended when a run fails", async () => {
  const streamer = new Recorder(tokenizer), controller = new AbortController();
  const logitsProcessor = [() => controller.abort()];
  await assertRejects(() =>
    generate(model, inputs, { ...options, streamer, logitsProcessor, signal: controller.signal })
  );
  assertEquals(streamer.heard.at(-1)![1], true);
});
