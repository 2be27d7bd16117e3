// regular expressions of untrusted tokenizers cannot hang the thread.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { LimitError, TokenizerError } from "../../src/errors.ts";
import { KNOWN_PATTERNS } from "../../src/tokenizer/known_patterns.ts";
import { createTokenizer } from "../../src/tokenizer/mod.ts";
import { checkPattern, findBacktracking, TimedRegExp, translate } from "../../src/tokenizer/regex.ts";
import { cpuTime } from "../helpers.ts";
import { defaultTokenizerJson } from "./fixtures.ts";

const json = await defaultTokenizerJson();

function withSplit(regex: string) {
  const split = { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false };
  return { ...json, pre_tokenizer: split };
}

// A pattern, and a text that makes it backtrack.
const hostile: [regex: string, text: string][] = [
  ["(a+)+$", "a".repeat(40) + "!"],
  ["(a|a)*b", "a".repeat(40)],
  ["(a|aa)+$", "a".repeat(60) + "!"],
  ["(.*a){20}", "a".repeat(200)],
  ["([a-zA-Z]+)*x", "a".repeat(40)],
  ["(a?){40}a{40}", "a".repeat(40)],
  ["a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a".repeat(28)],
  ["(x+x+)+y", "x".repeat(40)],
  [String.raw`(\w+)\1+z`, "ab".repeat(50_000)],
  [String.raw`\s+\s+\s+z`, " ".repeat(5000)],
  [".*.*.*x", "a".repeat(5000)],
  [String.raw`\x{61}*\x{61}*\x{61}*b`, "a".repeat(5000)],
  [String.raw`\x61*\u0061*[a]*b`, "a".repeat(5000)],
  ["(?=(a+)+b)", "a".repeat(40)],
  ["(?:a(?=.*b))*c", "a".repeat(100_000)],
  ["a*b", "a".repeat(1_000_000)], // quadratic: it passes the check and meets the deadline
];

for (const [regex, text] of hostile) {
  Deno.test(`tokenizer() does not hang on ${regex.slice(0, 40)}`, () => {
    const start = cpuTime();
    try {
      createTokenizer(withSplit(regex)).encode(text);
      throw new Error("nothing was refused");
    } catch (error) {
      assert(error instanceof TokenizerError || error instanceof LimitError, String(error));
      assert(error.hint?.includes("trust: true"), error.hint);
    }
    assert(cpuTime() - start < 3000, `${cpuTime() - start} ms`);
  });
}

Deno.test("createTokenizer() refuses hostile patterns in normalizers and decoders too", () => {
  const replace = { type: "Replace", pattern: { Regex: "(a+)+$" }, content: "" };
  assertThrows(() => createTokenizer({ ...json, normalizer: replace }), TokenizerError, "in bounded time");
  assertThrows(() => createTokenizer({ ...json, decoder: replace }), TokenizerError, "in bounded time");
  const nested = { type: "Sequence", normalizers: [{ type: "NFC" }, replace] };
  assertThrows(() => createTokenizer({ ...json, normalizer: nested }), TokenizerError, "in bounded time");
});

Deno.test("createTokenizer() with trust: true runs any pattern", () => {
  const tokenizer = createTokenizer(withSplit("(?:a|b)+c"), { trust: true });
  assertEquals(tokenizer.decode(tokenizer.encode("xabcx", { addSpecialTokens: false })), "xabcx");
  assertThrows(() => createTokenizer(withSplit("(?:a|b)+c")), TokenizerError, "a group is repeated");
});

Deno.test("createTokenizer() refuses patterns that are malformed or too long", () => {
  for (const regex of ["(", "[a", "a{2,1}", "(?<n>a", "x".repeat(5000)]) {
    assertThrows(() => createTokenizer(withSplit(regex)), TokenizerError);
  }
});

Deno.test("KNOWN_PATTERNS are JavaScript after translation, and run without a clock", () => {
  for (const regex of KNOWN_PATTERNS) assertEquals(checkPattern({ Regex: regex }, "test", false).timed, false, regex);
});

Deno.test("TimedRegExp finds what RegExp finds", () => {
  const text = "aab  bb\n\nac 🙂a\u0085🙂🙂b";
  for (const regex of ["a+b", String.raw`\s+(?!\S)|\s+`, "x*", "[^a]", "a|b|", "(?<=a)b", "🙂+", "(?:)"]) {
    const plain = translate(regex, "test"), timed = new TimedRegExp(plain, plain.flags, { left: 1000 });
    assertEquals(text.match(timed), text.match(plain), regex);
    assertEquals(text.split(timed), text.split(plain), regex);
    assertEquals(text.replaceAll(timed, "<$&>"), text.replaceAll(plain, "<$&>"), regex);
    const places = (pattern: RegExp) => Array.from(text.matchAll(pattern), (match) => match.index);
    assertEquals(places(timed), places(plain), regex);
  }
});

const judged: [regex: string, safe: boolean][] = [
  ["a+", true],
  ["a+b", true],
  ["(?:ab)+", false],
  [String.raw`\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))`, false],
  [String.raw`[\p{Lu}\p{Lo}]*[\p{Ll}\p{Lo}]+(?i:'s|'t)?`, true],
  ["[[a-z]&&[^aeiou]]+", false],
  ["[a-z0-9]+| ?[^a-z]+", true],
  ["(?:a|b)(?:c|d)e?", true],
  ["(?:a|b)+", false],
  ["(?:a+b?)+", false],
  ["a+b+c", false],
  ["a{2,100}b{2,100}c", false],
  ["(?=.*b)a+c", false],
  [String.raw`(a)\1`, false],
  [String.raw`(?<n>a)\k<n>`, false],
  ["a?b?c?d?e?f?g?h?i?j?k?l", false],
  ["(a|b)".repeat(11), false],
  ["(".repeat(60) + "a" + ")".repeat(60), true],
];
for (const [regex, safe] of judged) {
  Deno.test(`findBacktracking() ${safe ? "accepts" : "refuses"} ${regex.slice(0, 50)}`, () => {
    const reason = findBacktracking(translate(regex, "test").source);
    assertEquals(reason === undefined, safe, reason);
  });
}
