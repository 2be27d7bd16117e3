import { assertEquals, assertThrows } from "@std/assert";
import { ValueError } from "../../src/errors.ts";
import { createTokenizer, type EncodeOptions, loadTokenizer } from "../../src/tokenizer/mod.ts";
import { DEFAULT_MODEL } from "./fixtures.ts";

const tokenizer = await loadTokenizer(DEFAULT_MODEL);
const B = 2043, P = 2047; // begin and padding
const HELLO = [1052, 399, 322], A = [32];

const batches: [title: string, options: EncodeOptions, ids: number[][], mask: number[][]][] = [
  ["no padding", {}, [[B, ...HELLO], [B, ...A]], [[1, 1, 1, 1], [1, 1]]],
  ["padding: true", { padding: true }, [[B, ...HELLO], [B, ...A, P, P]], [[1, 1, 1, 1], [1, 1, 0, 0]]],
  ['padding: "longest"', { padding: "longest" }, [[B, ...HELLO], [B, ...A, P, P]], [[1, 1, 1, 1], [1, 1, 0, 0]]],
  [
    "padding on the left",
    { padding: true, paddingSide: "left" },
    [[B, ...HELLO], [P, P, B, ...A]],
    [[1, 1, 1, 1], [0, 0, 1, 1]],
  ],
  [
    "padding to maxLength",
    { padding: "maxLength", maxLength: 5 },
    [[B, ...HELLO, P], [B, ...A, P, P, P]],
    [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]],
  ],
  [
    "maxLength shorter than a row cuts nothing without truncation",
    { padding: "maxLength", maxLength: 3 },
    [[B, ...HELLO], [B, ...A, P]],
    [[1, 1, 1, 1], [1, 1, 0]],
  ],
  [
    "padToMultipleOf",
    { padding: true, padToMultipleOf: 3 },
    [[B, ...HELLO, P, P], [B, ...A, P, P, P, P]],
    [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]],
  ],
  ["truncation", { truncation: true, maxLength: 3 }, [[B, 1052, 399], [B, ...A]], [[1, 1, 1], [1, 1]]],
  [
    "truncation on the left",
    { truncation: true, maxLength: 3, truncationSide: "left" },
    [[B, 399, 322], [B, ...A]],
    [[1, 1, 1], [1, 1]],
  ],
  ["truncation without maxLength fits the model", { truncation: true }, [[B, ...HELLO], [B, ...A]], [
    [1, 1, 1, 1],
    [1, 1],
  ]],
  ["no special tokens", { addSpecialTokens: false }, [HELLO, A], [[1, 1, 1], [1]]],
  ["room for special tokens only", { truncation: true, maxLength: 1 }, [[B], [B]], [[1], [1]]],
];

for (const [title, options, inputIds, attentionMask] of batches) {
  Deno.test(`tokenizer() makes a batch: ${title}`, () => {
    assertEquals(tokenizer(["Hello world", "A"], options), { inputIds, attentionMask });
  });
}

Deno.test("tokenizer() takes an empty batch", () => {
  assertEquals(tokenizer([]), { inputIds: [], attentionMask: [] });
  assertEquals(tokenizer([], { padding: true }), { inputIds: [], attentionMask: [] });
});

Deno.test("tokenizer() encodes pairs; an empty second text is none", () => {
  const pair = tokenizer.encode("A", { textPair: "Hello world" });
  assertEquals(tokenizer(["A", "A"], { textPair: ["Hello world", "A"] }).inputIds[0], pair);
  assertEquals(tokenizer.encode("A", { textPair: "" }), [B, ...A]);
});

// Lengths of the two texts, the room, and what is left of each.
const cuts: [a: number, b: number, room: number, options: EncodeOptions["truncation"], left: [number, number]][] = [
  [6, 3, 6, true, [3, 3]],
  [3, 6, 7, "longestFirst", [3, 4]],
  [6, 6, 5, true, [2, 3]],
  [6, 5, 5, true, [3, 2]],
  [6, 1, 5, true, [4, 1]],
  [6, 6, 0, true, [0, 0]],
  [6, 3, 5, "onlyFirst", [2, 3]],
  [3, 6, 5, "onlySecond", [3, 2]],
];
const words = createTokenizer({
  model: { type: "WordPiece", vocab: { a: 0, b: 1, "[UNK]": 2 } },
  pre_tokenizer: { type: "WhitespaceSplit" },
});
for (const [a, b, room, truncation, [leftA, leftB]] of cuts) {
  Deno.test(`tokenizer() truncates a pair of ${a} and ${b} tokens to ${room}: ${truncation}`, () => {
    const options = { textPair: "b ".repeat(b), truncation, maxLength: room };
    const want = [...new Array(leftA).fill(0), ...new Array(leftB).fill(1)];
    assertEquals(words.encode("a ".repeat(a), options), want);
  });
}

const refused: [title: string, text: string | string[], options: EncodeOptions][] = [
  ["a pair for a batch", ["A", "B"], { textPair: "C" }],
  ["too few pairs", ["A", "B"], { textPair: ["C"] }],
  ["pairs for one text", "A", { textPair: ["C"] }],
  ["maxLength below the special tokens", "Hello", { truncation: true, maxLength: 0 }],
  ["maxLength that is no whole number", "Hello world", { truncation: true, maxLength: 1.5 }],
  ["onlyFirst of a text too short", "A", { truncation: "onlyFirst", textPair: "Hello world", maxLength: 3 }],
  ["padToMultipleOf 0", "A", { padding: true, padToMultipleOf: 0 }],
  ["padding without end", "A", { padding: "maxLength", maxLength: Infinity }],
  ["padding to 1e12", "A", { padding: "maxLength", maxLength: 1e12 }],
  ["a side that is none", "A", { padding: true, paddingSide: "top" as never }],
  ["a text that is none", 7 as never, {}],
];
for (const [title, text, options] of refused) {
  Deno.test(`tokenizer() refuses ${title}`, () => {
    assertThrows(() => tokenizer(text, options), ValueError);
  });
}

Deno.test("tokenizer() pads with padTokenId as it is set, and says how to set it", async () => {
  const own = await loadTokenizer(DEFAULT_MODEL);
  own.padTokenId = null;
  const error = assertThrows(() => own(["A", "Hello world"], { padding: true }), ValueError);
  assertEquals(error.hint, "Set tokenizer.padTokenId, for instance to tokenizer.eosTokenId.");
  own.padTokenId = own.eosTokenId;
  own.paddingSide = "left";
  assertEquals(own(["A", "Hello world"], { padding: true }).inputIds[0], [2044, 2044, B, ...A]);
});
