/**
 * Patterns of a tokenizer.json: strings, and regular expressions in Oniguruma's language.
 *
 * A regular expression of a stranger cannot hang the thread, and encoding stays synchronous: well-known patterns run as
 * they are; any other is refused if it could backtrack without bound ({@linkcode findBacktracking}), and matched one
 * start at a time against a deadline if not.
 *
 * @module
 */
import { SplitPreTokenizer } from "@huggingface/tokenizers";
import { LimitError, TokenizerError } from "../errors.ts";
import type { Budget } from "./budget.ts";
import { asObject, asString, refuse, show } from "./checks.ts";
import { KNOWN_PATTERNS } from "./known_patterns.ts";
import { findBacktracking } from "./regex_safety.ts";

const MAX_PATTERN_CHARS = 4096;
// Starts tried between two looks at the clock.
const STARTS = 16;

/** A pattern, ready to search. */
export interface Pattern {
  /** Starts and ends of all matches in `text`, in order: `[start, end, start, end, …]`. */
  matches(text: string, budget: Budget): number[];
}

/**
 * The pattern of a `{"String": …}` or `{"Regex": …}` object.
 *
 * @param trust whether the file's author is trusted: then nothing is refused and nothing is timed
 */
export function compilePattern(value: unknown, path: string, trust: boolean): Pattern {
  const { String: literal, Regex: source } = asObject(value, path);
  if (literal !== undefined) {
    const text = asString(literal, `${path}.String`);
    return text === "" ? regexPattern(/(?:)/gu, true) : literalPattern(text);
  }
  const oniguruma = asString(source, `${path}.Regex`);
  if (oniguruma.length > MAX_PATTERN_CHARS) {
    refuse(`${path}.Regex`, `have at most ${MAX_PATTERN_CHARS} characters`, oniguruma.length);
  }
  const safe = trust || KNOWN_PATTERNS.has(oniguruma);
  const regex = translate(oniguruma, path);
  const reason = safe ? undefined : findBacktracking(regex.source);
  if (reason !== undefined) {
    throw new TokenizerError(
      `Cannot load the tokenizer as ${path}.Regex must match in bounded time: ${reason} in ${show(oniguruma)}`,
      { hint: "Load it with trust: true if you know who wrote it." },
    );
  }
  return regexPattern(regex, safe);
}

/** The pattern of a regular expression that we wrote ourselves; it has the flags "gu". */
export function ownPattern(regex: RegExp): Pattern {
  return regexPattern(regex, true);
}

/** The JavaScript form of an Oniguruma pattern; the translation is that of `@huggingface/tokenizers`. */
export function translate(oniguruma: string, path: string): RegExp {
  try {
    const pattern = { Regex: oniguruma };
    const split = new SplitPreTokenizer({ type: "Split", pattern, behavior: "Isolated", invert: false });
    if (split.pattern) return split.pattern;
  } catch (cause) {
    throw new TokenizerError(
      `Cannot load the tokenizer as ${path}.Regex must be a pattern that JavaScript can match: ` +
        `current value is ${show(oniguruma)}`,
      { cause },
    );
  }
  return refuse(path, "be a pattern", oniguruma);
}

function literalPattern(literal: string): Pattern {
  return {
    matches(text) {
      const found: number[] = [];
      for (let at = text.indexOf(literal); at >= 0; at = text.indexOf(literal, at + literal.length)) {
        found.push(at, at + literal.length);
      }
      return found;
    },
  };
}

function regexPattern(global: RegExp, safe: boolean): Pattern {
  if (safe) return { matches: (text) => guarded(() => searchAll(global, text)) };
  const sticky = new RegExp(global.source, global.flags.replace("g", "y"));
  return {
    matches(text, budget) {
      const start = performance.now();
      const found = guarded(() => searchTimed(sticky, text, budget.regexDeadline()));
      budget.spendRegex(performance.now() - start);
      return found;
    },
  };
}

function searchAll(regex: RegExp, text: string): number[] {
  const found: number[] = [];
  regex.lastIndex = 0;
  for (let match = regex.exec(text); match; match = regex.exec(text)) {
    const end = match.index + match[0].length;
    found.push(match.index, end);
    if (end === match.index) regex.lastIndex = nextCharacter(text, end);
  }
  return found;
}

function searchTimed(sticky: RegExp, text: string, deadline: number): number[] {
  const found: number[] = [];
  for (let at = 0, starts = 1; at <= text.length; starts++) {
    if (starts % STARTS === 0 && performance.now() > deadline) break; // the caller sees that the time is spent
    sticky.lastIndex = at;
    const match = sticky.exec(text);
    if (match) found.push(at, at + match[0].length);
    at = match && match[0] !== "" ? at + match[0].length : nextCharacter(text, at);
  }
  return found;
}

function nextCharacter(text: string, at: number): number {
  return at + (text.codePointAt(at)! > 0xffff ? 2 : 1);
}

/** V8 reports a full backtrack stack as a RangeError. */
function guarded(search: () => number[]): number[] {
  try {
    return search();
  } catch (cause) {
    throw new LimitError("Cannot encode the text as a regular expression must match without running out of stack", {
      cause,
      hint: "Split the text.",
    });
  }
}
