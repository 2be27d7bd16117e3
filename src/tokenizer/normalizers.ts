/**
 * Normalizers of a tokenizer.json: text to text, before it is split.
 *
 * @module
 */
import type { Budget } from "./budget.ts";
import { toByteChars } from "./byte_chars.ts";
import { asArray, asBoolean, asString, buildPart, type Json } from "./checks.ts";
import { precompiled } from "./precompiled.ts";
import { compilePattern, type Pattern } from "./regex.ts";

/** Text to text. */
export type Normalizer = (text: string, budget: Budget) => string;

/** The normalizer of a tokenizer.json; null normalizes nothing. */
export function createNormalizer(config: unknown, trust: boolean): Normalizer {
  if (config === null || config === undefined) return (text) => text;
  return buildPart<Normalizer>("normalizer", config, {
    BertNormalizer: bert,
    ByteLevel: () => toByteChars,
    Lowercase: () => lowercase,
    NFC: () => (text) => text.normalize("NFC"),
    NFD: () => (text) => text.normalize("NFD"),
    NFKC: () => (text) => text.normalize("NFKC"),
    NFKD: () => (text) => text.normalize("NFKD"),
    Nmt: () => nmt,
    Precompiled: (c) => precompiled(c.precompiled_charsmap, "normalizer.precompiled_charsmap"),
    Prepend: prepend,
    Replace: (c) => replace(c, trust),
    Sequence: (c) => {
      const all = asArray(c.normalizers, "normalizer.normalizers").map((part) => createNormalizer(part, trust));
      return (text, budget) =>
        all.reduce((current, normalize) => {
          const next = normalize(current, budget);
          budget.checkLength(next.length);
          return next;
        }, text);
    },
    Strip: strip,
    StripAccents: () => (text) => text.replace(/\p{M}/gu, ""),
  });
}

/** Replaces every match of `pattern` in `text`; `content` stands for itself, "$1" too. */
export function replaceMatches(text: string, pattern: Pattern, content: string, budget: Budget): string {
  const found = pattern.matches(text, budget);
  if (found.length === 0) return text;
  budget.checkLength(text.length + content.length * (found.length / 2));
  const parts: string[] = [];
  let done = 0;
  for (let i = 0; i < found.length; i += 2) {
    parts.push(text.slice(done, found[i]), content);
    done = found[i + 1]!;
  }
  parts.push(text.slice(done));
  return parts.join("");
}

function replace(config: Json, trust: boolean): Normalizer {
  const pattern = compilePattern(config.pattern, "normalizer.pattern", trust);
  const content = asString(config.content, "normalizer.content");
  return (text, budget) => replaceMatches(text, pattern, content, budget);
}

function prepend(config: Json): Normalizer {
  const prefix = asString(config.prepend, "normalizer.prepend");
  return (text) => text === "" ? text : prefix + text;
}

function strip(config: Json): Normalizer {
  const left = asBoolean(config.strip_left, "normalizer.strip_left", true);
  const right = asBoolean(config.strip_right, "normalizer.strip_right", true);
  return (text) => {
    const start = left ? text.search(/\P{White_Space}/u) : 0;
    if (start < 0) return "";
    let end = text.length;
    while (right && end > start && /\p{White_Space}/u.test(text[end - 1]!)) end--;
    return text.slice(start, end);
  };
}

/** Lower case character by character: a final Σ is σ, not ς, as in the library that trained the vocabularies. */
function lowercase(text: string): string {
  return text.replaceAll("Σ", "σ").toLowerCase();
}

/** Deletes control characters and turns the other invisible ones into spaces. */
function nmt(text: string): string {
  // deno-lint-ignore no-control-regex
  const deleted = /[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]/g;
  return text.replace(deleted, "").replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, " ");
}

const CJK = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

function bert(config: Json): Normalizer {
  const clean = asBoolean(config.clean_text, "normalizer.clean_text", true);
  const cjk = asBoolean(config.handle_chinese_chars, "normalizer.handle_chinese_chars", true);
  const lower = asBoolean(config.lowercase, "normalizer.lowercase", true);
  const stripAccents = asBoolean(config.strip_accents, "normalizer.strip_accents", lower);
  return (text) => {
    let out = text;
    if (clean) {
      out = out.replace(/[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}]/gu, "").replace(/\p{White_Space}/gu, " ");
    }
    if (cjk) out = out.replace(CJK, " $& ");
    if (stripAccents) out = out.normalize("NFD").replace(/\p{Mn}/gu, "");
    return lower ? lowercase(out) : out;
  };
}
