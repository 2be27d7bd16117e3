import { assertEquals, assertThrows } from "@std/assert";
import { ShapeError } from "../../src/errors.ts";
import { countTokens, countTokensReference } from "../../src/ops/count_tokens.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { random, testDevice } from "../helpers.ts";

const device = await testDevice();
const NONE = 0xffffffff;
const cases: [name: string, vocab: number, tokens: number[], cuSeqlens: number[]][] = [
  ["one sequence with a token that repeats", 5, [1, 4, 1, 1], [0, 4]],
  ["sequences of which one is empty", 3, [0, 1, 2, 2], [0, 1, 1, 4]],
  ["a decode step: a token for each sequence", 4, [3, 0, 3], [0, 1, 2, 3]],
  ["tokens that are none", 4, [NONE, 4, 3], [0, 3]],
  ["no token at all", 4, [], [0, 0]],
  ["more than a workgroup", 7, Array.from({ length: 1000 }, ((next) => () => Math.floor(next() * 7))(random())), [
    0,
    300,
    1000,
  ]],
];
for (const [name, vocab, tokens, cuSeqlens] of cases) {
  Deno.test(`countTokens() equals its reference: ${name}`, async () => {
    const sequences = cuSeqlens.length - 1, want = Uint32Array.from({ length: sequences * vocab }, (_, i) => i % 2);
    using counts = tensor(device, want, [sequences, vocab], "uint32");
    for (let call = 0; call < 2; call++) { // the second adds to the first
      countTokensReference(want, tokens, cuSeqlens);
      countTokens(
        counts,
        tensor(device, tokens, [tokens.length], "uint32"),
        tensor(device, cuSeqlens, [cuSeqlens.length], "uint32"),
      );
    }
    assertEquals(await counts.read(), want);
  });
}

Deno.test("countTokens() refuses sequences that are not those of its counts, before anything runs", () => {
  const counts = tensor(device, new Uint32Array(6), [2, 3], "uint32"), tokens = tensor(device, [0], [1], "uint32");
  assertThrows(
    () => countTokens(counts, tokens, tensor(device, [0, 1], [2], "uint32")),
    ShapeError,
    "Cannot run countTokens as cuSeqlens must be [3]: current shape is [2]",
  );
});
