/**
 * Pre-tokenizers of a tokenizer.json: text to pieces; no token crosses the border of two pieces.
 *
 * @module
 */
import type { Budget } from "./budget.ts";
import { toByteChars } from "./byte_chars.ts";
import { asArray, asBoolean, asCharacter, asInteger, asOneOf, buildPart, type Json, MAX_TEXT_CHARS } from "./checks.ts";
import { GPT2 } from "./known_patterns.ts";
import { compilePattern, ownPattern, type Pattern, translate } from "./regex.ts";

/** Text to pieces; `first` says whether the text's first character is the first one of the whole input. */
export type PreTokenizer = (text: string, first: boolean, budget: Budget) => string[];

const BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"] as const;
type Behavior = typeof BEHAVIORS[number];

const SPACES = /\p{White_Space}+/gu;
// \w here has the joiners that Oniguruma's \w has not.
const WORDS =
  /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu;
const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu;

/** The pre-tokenizer of a tokenizer.json; null leaves the text whole. */
export function createPreTokenizer(config: unknown, trust: boolean): PreTokenizer {
  if (config === null || config === undefined) return (text) => [text];
  return buildPart<PreTokenizer>("pre_tokenizer", config, {
    BertPreTokenizer: () => sequence([splitBy(SPACES, "Removed"), splitBy(PUNCTUATION, "Isolated")]),
    ByteLevel: byteLevel,
    CharDelimiterSplit: (c) => {
      const pattern = compilePattern({ String: asCharacter(c.delimiter, "pre_tokenizer.delimiter") }, "", true);
      return (text, _first, budget) => split(text, pattern.matches(text, budget), "Removed", false);
    },
    Digits: (c) =>
      splitBy(
        /\p{N}/gu,
        asBoolean(c.individual_digits, "pre_tokenizer.individual_digits", false) ? "Isolated" : "Contiguous",
      ),
    FixedLength: fixedLength,
    Metaspace: metaspace,
    Punctuation: (c) => splitBy(PUNCTUATION, behavior(c.behavior ?? "Isolated")),
    Sequence: (c) =>
      sequence(asArray(c.pretokenizers, "pre_tokenizer.pretokenizers").map((part) => createPreTokenizer(part, trust))),
    Split: (c) => {
      const pattern = compilePattern(c.pattern, "pre_tokenizer.pattern", trust);
      const how = behavior(c.behavior), invert = asBoolean(c.invert, "pre_tokenizer.invert", false);
      return (text, _first, budget) => split(text, pattern.matches(text, budget), how, invert);
    },
    Whitespace: () => splitBy(WORDS, "Removed", true),
    WhitespaceSplit: () => splitBy(SPACES, "Removed"),
  });
}

/**
 * Cuts `text` at its matches.
 *
 * @param matches starts and ends, `[start, end, start, end, …]`
 * @param behavior what becomes of a match: a piece of its own, a part of a neighbour, nothing, …
 * @param invert swaps what matches and what does not
 */
function split(text: string, matches: readonly number[], behavior: Behavior, invert: boolean): string[] {
  const ends: number[] = [], isMatch: boolean[] = [];
  let done = 0;
  for (let i = 0; i < matches.length; i += 2) {
    const start = matches[i]!, end = matches[i + 1]!;
    if (start > done) ends.push(start), isMatch.push(invert);
    if (end > start) ends.push(end), isMatch.push(!invert);
    done = end;
  }
  if (done < text.length) ends.push(text.length), isMatch.push(invert);
  // A piece ends after part i unless part i + 1 joins it.
  const joinsNext = (i: number): boolean => {
    if (i + 1 >= ends.length) return false;
    if (behavior === "Contiguous") return isMatch[i] === isMatch[i + 1];
    if (behavior === "MergedWithPrevious") return !isMatch[i] && isMatch[i + 1]!;
    return behavior === "MergedWithNext" && isMatch[i]! && !isMatch[i + 1];
  };
  const pieces: string[] = [];
  for (let i = 0, from = 0; i < ends.length; i++) {
    if (joinsNext(i)) continue;
    if (behavior !== "Removed" || !isMatch[i]) pieces.push(text.slice(from, ends[i]));
    from = ends[i]!;
  }
  return pieces;
}

function splitBy(regex: RegExp, how: Behavior, invert = false): PreTokenizer {
  const pattern = ownPattern(regex);
  return (text, _first, budget) => split(text, pattern.matches(text, budget), how, invert);
}

function behavior(value: unknown): Behavior {
  return asOneOf(value, "pre_tokenizer.behavior", BEHAVIORS);
}

function sequence(all: readonly PreTokenizer[]): PreTokenizer {
  return (text, first, budget) => {
    let pieces = [text];
    for (const preTokenize of all) {
      // A piece that does not begin the text any more follows a part that was removed.
      const leads = first && pieces.length > 0 && text.startsWith(pieces[0]!);
      pieces = pieces.flatMap((piece, i) => preTokenize(piece, leads && i === 0, budget));
    }
    return pieces;
  };
}

function byteLevel(config: Json): PreTokenizer {
  const prefix = asBoolean(config.add_prefix_space, "pre_tokenizer.add_prefix_space", true);
  const pattern: Pattern | undefined = asBoolean(config.use_regex, "pre_tokenizer.use_regex", true)
    ? ownPattern(translate(GPT2, "pre_tokenizer"))
    : undefined;
  return (text, _first, budget) => {
    const spaced = prefix && !text.startsWith(" ") ? ` ${text}` : text;
    const pieces = pattern ? split(spaced, pattern.matches(spaced, budget), "Isolated", false) : [spaced];
    return pieces.map(toByteChars);
  };
}

function metaspace(config: Json): PreTokenizer {
  const replacement = asCharacter(config.replacement, "pre_tokenizer.replacement", "▁");
  const legacy = asBoolean(config.add_prefix_space, "pre_tokenizer.add_prefix_space", true) ? "always" : "never";
  const scheme = asOneOf(config.prepend_scheme ?? legacy, "pre_tokenizer.prepend_scheme", ["always", "first", "never"]);
  const cut = asBoolean(config.split, "pre_tokenizer.split", true);
  const pattern = compilePattern({ String: replacement }, "", true);
  return (text, first, budget) => {
    const marked = text.replaceAll(" ", () => replacement);
    const wants = scheme === "always" || (scheme === "first" && first);
    const whole = wants && !marked.startsWith(replacement) ? replacement + marked : marked;
    return cut ? split(whole, pattern.matches(whole, budget), "MergedWithNext", false) : [whole];
  };
}

function fixedLength(config: Json): PreTokenizer {
  const length = asInteger(config.length, "pre_tokenizer.length", 1, MAX_TEXT_CHARS, 5);
  return (text) => {
    const chars = [...text], pieces: string[] = [];
    for (let i = 0; i < chars.length; i += length) pieces.push(chars.slice(i, i + length).join(""));
    return pieces;
  };
}
