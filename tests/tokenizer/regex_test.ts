// regular expressions of untrusted tokenizers cannot hang the thread.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { LimitError, TokenizerError } from "../../src/errors.ts";
import { Budget } from "../../src/tokenizer/budget.ts";
import { KNOWN_PATTERNS } from "../../src/tokenizer/known_patterns.ts";
import { createTokenizer } from "../../src/tokenizer/mod.ts";
import { compilePattern, translate } from "../../src/tokenizer/regex.ts";
import { findBacktracking } from "../../src/tokenizer/regex_safety.ts";
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
  ["(?=(a+)+b)", "a".repeat(40)],
  ["(?:a(?=.*b))*c", "a".repeat(100_000)],
  ["a*b", "a".repeat(1_000_000)], // quadratic: it passes the check and meets the deadline
];

for (const [regex, text] of hostile) {
  Deno.test(`tokenizer() does not hang on ${regex.slice(0, 40)}`, () => {
    const start = performance.now();
    try {
      createTokenizer(withSplit(regex)).encode(text);
      throw new Error("nothing was refused");
    } catch (error) {
      assert(error instanceof TokenizerError || error instanceof LimitError, String(error));
      assert(error.hint?.includes("trust: true"), error.hint);
    }
    assert(performance.now() - start < 3000, `${performance.now() - start} ms`);
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
  assertThrows(() => createTokenizer(withSplit("(?:a|b)+c")), TokenizerError, "a repeat contains a choice");
});

Deno.test("createTokenizer() refuses patterns that are malformed or too long", () => {
  for (const regex of ["(", "[a", "a{2,1}", "(?<n>a", "x".repeat(5000)]) {
    assertThrows(() => createTokenizer(withSplit(regex)), TokenizerError);
  }
});

Deno.test("KNOWN_PATTERNS are JavaScript after translation, and run without a deadline", () => {
  const text = "It's 12345 naïve 日本  \r\n\t\u0085\ufeff x".repeat(10_000);
  for (const regex of KNOWN_PATTERNS) {
    const pattern = compilePattern({ Regex: regex }, "test", false);
    const budget = new Budget();
    budget.spendRegex(2000); // nothing is left
    assert(Array.isArray(pattern.matches(text, budget)), regex);
  }
});

Deno.test("compilePattern() finds the same matches timed and untimed", () => {
  const text = "aab  bb\n\nac 🙂a\u0085🙂🙂b";
  for (const regex of ["a+b", String.raw`\s+(?!\S)|\s+`, "x*", "[^a]", "a|b|", "(?<=a)b", "🙂+", "(?:)"]) {
    const matches = (trust: boolean) => compilePattern({ Regex: regex }, "test", trust).matches(text, new Budget());
    assertEquals(matches(false), matches(true), regex);
  }
});

const judged: [regex: string, safe: boolean][] = [
  ["a+", true],
  ["a+b", true],
  ["(?:ab)+", true],
  [String.raw`\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))`, true],
  [String.raw`[\p{Lu}\p{Lo}]*[\p{Ll}\p{Lo}]+(?i:'s|'t)?`, true],
  ["[[a-z]&&[^aeiou]]+", true],
  ["(?:a|b)+", false],
  ["(?:a+b?)+", false],
  ["a+b+c", false],
  ["a{2,100}b{2,100}c", false],
  ["(?=.*b)a+c", false],
  [String.raw`(a)\1`, false],
  [String.raw`(?<n>a)\k<n>`, false],
  ["a?b?c?d?e?f?g?h", false],
  ["(".repeat(60) + "a" + ")".repeat(60), false],
];
for (const [regex, safe] of judged) {
  Deno.test(`findBacktracking() ${safe ? "accepts" : "refuses"} ${regex.slice(0, 50)}`, () => {
    const reason = findBacktracking(translate(regex, "test").source);
    assertEquals(reason === undefined, safe, reason);
  });
}
