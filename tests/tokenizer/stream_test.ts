import { assert, assertEquals, assertThrows } from "@std/assert";
import { ValueError } from "../../src/errors.ts";
import { createTokenizer, loadTokenizer, type Tokenizer } from "../../src/tokenizer/mod.ts";
import { loadGoldens } from "../reference.ts";
import fc from "fast-check";
import { DEFAULT_MODEL, partsOfPython, referenceTokenizers } from "./fixtures.ts";

const tiny = await loadTokenizer(DEFAULT_MODEL);
const python = await partsOfPython();

function chunks(tokenizer: Tokenizer, ids: Iterable<number>, options = {}): string[] {
  const stream = tokenizer.tokenStream(options);
  const puts = Array.from(ids, (id) => stream.put(id));
  return [...puts, stream.end()];
}

/** No chunk may cut a character: neither a surrogate pair nor the bytes of one (U+FFFD that decode() does not have). */
function checkStream(tokenizer: Tokenizer, ids: number[], decoded: string): void {
  for (const skipSpecialTokens of [false, true]) {
    const all = chunks(tokenizer, ids, { skipSpecialTokens });
    const whole = skipSpecialTokens ? tokenizer.decode(ids, { skipSpecialTokens }) : decoded;
    assertEquals(all.join(""), whole);
    for (const chunk of all) assert(chunk.isWellFormed(), `${JSON.stringify(chunk)} of ${JSON.stringify(decoded)}`);
    if (!whole.includes("\ufffd")) assert(!all.some((chunk) => chunk.includes("\ufffd")));
  }
}

for (const [kind, folder] of referenceTokenizers()) {
  Deno.test(`TokenStream puts together decode() of transformers: ${kind}`, async () => {
    const tokenizer = await loadTokenizer(folder);
    const { cases } = (await loadGoldens<{ ids: number[]; decoded?: string }>(`data/tokenizers/${kind}/goldens`))!;
    for (const c of cases) if (c.decoded !== undefined) checkStream(tokenizer, c.ids, c.decoded);
  });
}

for (const [name, { json, cases }] of Object.entries(python.tokenizers)) {
  Deno.test(`TokenStream puts together decode() of Python: ${name}`, () => {
    const tokenizer = createTokenizer(json);
    for (const c of cases) {
      checkStream(tokenizer, c.ids, name === "CLIP" ? tokenizer.decode(c.ids) : c.decoded);
      checkStream(tokenizer, c.some, name === "CLIP" ? tokenizer.decode(c.some) : c.some_decoded); // ids in no order: half characters everywhere
    }
  });
}

Deno.test("TokenStream puts together decode() on random ids, long runs of one id among them", async () => {
  const every = [tiny, ...Object.values(python.tokenizers).map(({ json }) => createTokenizer(json))];
  for (const [, folder] of referenceTokenizers()) every.push(await loadTokenizer(folder));
  const run = fc.tuple(fc.nat(), fc.oneof({ weight: 9, arbitrary: fc.constant(1) }, fc.nat(60)));
  let round = 0;
  fc.assert(
    fc.property(fc.array(run, { maxLength: 30 }), (runs) => {
      const tokenizer = every[round++ % every.length]!;
      const ids = runs.flatMap(([id, times]) => new Array<number>(times).fill(id % tokenizer.vocabSize));
      assertEquals(chunks(tokenizer, ids).join(""), tokenizer.decode(ids));
    }),
    { seed: 7, numRuns: 2000 },
  );
});

const emoji = "a🙂👩‍👩‍👧é日本🇵🇹";
Deno.test("TokenStream.put() holds a character back until its last byte", () => {
  const ids = tiny.encode(emoji, { addSpecialTokens: false });
  const all = chunks(tiny, ids);
  assertEquals(all.join(""), emoji);
  assertEquals(all.slice(0, 5), ["a", "", "", "", "🙂"]);
  assertEquals(all.at(-1), "");
});

Deno.test("TokenStream.end() gives an unfinished character as U+FFFD, once", () => {
  for (let cut = 1; cut <= 3; cut++) {
    const ids = tiny.encode("🙂", { addSpecialTokens: false }).slice(0, cut);
    assertEquals(chunks(tiny, ids), [...ids.map(() => ""), "\ufffd"]);
    assertEquals(tiny.decode(ids), "\ufffd");
  }
});

Deno.test("TokenStream.put() emits words as they come", () => {
  const ids = tiny.encode("one two three", { addSpecialTokens: false });
  assertEquals(chunks(tiny, ids).filter((chunk) => chunk !== "").length, ids.length);
});

Deno.test("TokenStream of byte fallback holds an unfinished character back, and a BOM stays", () => {
  const llama = createTokenizer(python.tokenizers["Llama 2"]!.json);
  const bytes = (...all: string[]) => all.map((byte) => llama.convertTokensToIds(`<0x${byte}>`)!);
  const a = llama.convertTokensToIds("a")!;
  assertEquals(chunks(llama, [a, ...bytes("E4", "BB", "A0"), a]), ["a", "", "", "仠", "a", ""]);
  assertEquals(chunks(llama, [...bytes("E4", "BB"), a]), ["", "", "\ufffda", ""]);
  assertEquals(llama.decode([a, ...bytes("EF", "BB", "BF"), a]), "a\ufeffa");
  assertEquals(chunks(llama, [a, ...bytes("F0", "9F")]), ["a", "", "", "\ufffd"]);
});

Deno.test("TokenStream.put() leaves out ids without a token, and refuses what is no id", () => {
  assertEquals(tiny.decode([]), "");
  assertEquals(tiny.decode([99_999]), "");
  assertEquals(tiny.batchDecode([[], tiny.encode("a b", { addSpecialTokens: false })]), ["", "a b"]);
  for (const id of [-1, 0.5, NaN, "1" as never, null as never]) {
    assertThrows(() => tiny.decode([id]), ValueError);
  }
});

/** What transformers' clean_up_tokenization does to a whole text. */
function cleanUp(text: string): string {
  const rules = [[" .", "."], [" ?", "?"], [" !", "!"], [" ,", ","], [" ' ", "'"], [" n't", "n't"], [" 'm", "'m"]];
  for (const [from, to] of [...rules, [" 's", "'s"], [" 've", "'ve"], [" 're", "'re"]]) {
    text = text.replaceAll(from!, to!);
  }
  return text;
}

Deno.test("TokenStream with cleanUpTokenizationSpaces equals the clean-up of the whole text", () => {
  const pieces = [" ", "  ", ".", "?", "'", "n", "n't", "t", "m", "s", "ve", "re", " '", "a", "word", ","];
  const vocab = Object.fromEntries(pieces.map((piece, i) => [piece, i]));
  const json = { model: { type: "WordPiece", vocab: { ...vocab, "[UNK]": pieces.length } }, decoder: { type: "Fuse" } };
  const tokenizer = createTokenizer(json);
  fc.assert(
    fc.property(fc.array(fc.nat(pieces.length - 1), { maxLength: 20 }), (ids) => {
      const text = ids.map((id) => pieces[id]).join("");
      assertEquals(chunks(tokenizer, ids, { cleanUpTokenizationSpaces: true }).join(""), cleanUp(text));
      assertEquals(tokenizer.decode(ids), text);
    }),
    { seed: 5, numRuns: 3000 },
  );
});

Deno.test("TokenStream ignores cleanUpTokenizationSpaces for BPE, as transformers does", () => {
  const ids = tiny.encode("a . b", { addSpecialTokens: false });
  assertEquals(tiny.decode(ids, { cleanUpTokenizationSpaces: true }), "a . b");
});
