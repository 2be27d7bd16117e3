/**
 * Regular expressions of a tokenizer.json that a stranger may have written: they cannot hang the thread.
 *
 * Well-known patterns run as they are. Any other is refused if one start could backtrack for long, and runs against the
 * clock, start by start, if not.
 *
 * @module
 */
import { SplitPreTokenizer } from "@huggingface/tokenizers";
import { LimitError, TokenizerError } from "../errors.ts";
import { asObject, asString, refuse, show } from "./checks.ts";
import { KNOWN_PATTERNS } from "./known_patterns.ts";

const MAX_PATTERN_CHARS = 4096;
const MAX_FACTOR = 1024; // ways of short choices to match at one place
const MANY = 32; // repeats: more are as many as the text is long
const STARTS = 16; // between two looks at the clock

/** A pattern as the library takes it. */
export interface Pattern {
  /** In Oniguruma's language. */
  Regex: string;
  /** The text that it stands for, where it is no regular expression. */
  literal?: string;
  /** Whether it has to run against the clock. */
  timed: boolean;
  /** How many groups of it capture. */
  groups: number;
}

/** A pattern of ours. */
export function own(Regex: string): Pattern {
  return { Regex, timed: false, groups: 0 };
}

/** `text` as a pattern that matches nothing else. */
export function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\&-]/g, "\\$&");
}

/** The pattern of a `{"String": …}` or `{"Regex": …}` object, unless it is dangerous and not to be trusted. */
export function checkPattern(value: unknown, path: string, trust: boolean): Pattern {
  const { String: text, Regex: regex } = asObject(value, path);
  if (text !== undefined) {
    const literal = asString(text, `${path}.String`);
    return literal === "" ? refuse(path, "be a text that is not empty", value) : { ...own(escape(literal)), literal };
  }
  const Regex = asString(regex, `${path}.Regex`);
  if (Regex.length > MAX_PATTERN_CHARS) {
    refuse(`${path}.Regex`, `have at most ${MAX_PATTERN_CHARS} characters`, Regex.length);
  }
  const { source } = translate(Regex, path);
  const groups = new RegExp(`${source}|`, "u").exec("")!.length - 1;
  if (trust || KNOWN_PATTERNS.has(Regex)) return { Regex, timed: false, groups };
  const reason = findBacktracking(source);
  if (reason === undefined) return { Regex, timed: true, groups };
  throw new TokenizerError(
    `Cannot load the tokenizer as ${path}.Regex must match in bounded time: ${reason} in ${show(Regex)}`,
    { hint: "Load it with trust: true if you know who wrote it." },
  );
}

/** The JavaScript form of an Oniguruma pattern. */
export function translate(oniguruma: string, path: string): RegExp {
  try {
    const pattern = { Regex: oniguruma };
    const { pattern: regex } = new SplitPreTokenizer({ type: "Split", pattern, behavior: "Isolated", invert: false });
    regex!.exec(""); // V8 compiles it only now
    return regex!;
  } catch (cause) {
    throw new TokenizerError(
      `Cannot load the tokenizer as ${path}.Regex must be a pattern that JavaScript can match: ` +
        `current value is ${show(oniguruma)}`,
      { cause },
    );
  }
}

const ATOMS =
  /\\(?:[pPu]\{[^}]*\}|x..|u....|c.|[^])|\[(?:\\[^]|[^\]\\])*\]|\(\?(?:[=!:]|<[=!]|<[^>]*>|[a-z-]+:)|[()|^$]|(?:[*+?]|\{\d+(?:,\d*)?\})\??|[^]/gu;

/**
 * Why a JavaScript pattern could backtrack for long at one start; undefined where it cannot.
 *
 * It counts choices that something behind them can make the engine try again: one over the length of the text is linear.
 * It takes groups apart no further than to see that none of them is repeated, so it also refuses some harmless patterns.
 */
export function findBacktracking(source: string): string | undefined {
  if (/\\[1-9k]/.test(source)) return "a backreference stands";
  let choices = 0, factor = 1, fails = false, repeat: RegExpExecArray | null = null;
  const groups: boolean[] = []; // whether what stands before each open group is tried again when something fails
  for (const atom of (source.match(ATOMS) ?? []).reverse()) {
    const found = /^(?:([*+?])|\{(\d+)(,)?(\d*)\})\??$/.exec(atom);
    if (found) {
      repeat = found;
      continue;
    }
    const [min, max] = repeat ? range(repeat) : [1, 1];
    repeat = null;
    if (atom === ")") {
      if (max > 1) return "a group is repeated";
      if (min === 0 && fails) factor *= 2;
      groups.push(fails || min > 0);
      fails = true;
    } else if (atom.startsWith("(")) fails = groups.pop() ?? true;
    else if (atom === "|" && groups.length === 0) {
      if (choices > 1 || factor > MAX_FACTOR) break;
      [choices, factor, fails] = [0, 1, false];
    } else {
      if (atom === "|") factor *= 2;
      if (fails && max - min > MANY) choices++;
      else if (fails) factor *= max - min + 1;
      if (min > 0) fails = true;
    }
  }
  if (choices > 1) return "repeats follow each other";
  return factor > MAX_FACTOR ? `more than ${MAX_FACTOR} ways to match one place are` : undefined;
}

function range([, sign, least, comma, most]: RegExpExecArray): [min: number, max: number] {
  if (sign !== undefined) return [sign === "+" ? 1 : 0, sign === "?" ? 1 : Infinity];
  return [Number(least), comma === undefined ? Number(least) : Number(most || Infinity)];
}

/** How long regular expressions may still run, in ms. */
export interface Clock {
  left: number;
}

/** A global regular expression that gives up when its clock has run down. */
export class TimedRegExp extends RegExp {
  readonly #clock: Clock;
  readonly #here: RegExp;
  #starts = 0;

  /** `clock` is that of `pattern` where the engine itself makes a copy. */
  constructor(pattern: RegExp, flags = pattern.flags, clock: Clock = (pattern as TimedRegExp).#clock) {
    super(pattern, flags);
    this.#clock = clock;
    this.#here = new RegExp(pattern.source, "uy");
  }

  override exec(text: string): RegExpExecArray | null {
    const start = performance.now();
    for (let at = this.lastIndex; at <= text.length; at += text.codePointAt(at)! > 0xffff ? 2 : 1) {
      if (++this.#starts % STARTS === 0 && performance.now() - start > this.#clock.left) throw outOfTime();
      this.#here.lastIndex = at;
      const match = this.#here.exec(text);
      if (match === null && !this.sticky) continue;
      this.lastIndex = match === null ? 0 : this.#here.lastIndex;
      this.#clock.left -= performance.now() - start;
      return match;
    }
    this.#clock.left -= performance.now() - start;
    this.lastIndex = 0;
    return null;
  }
}

function outOfTime(): LimitError {
  return new LimitError("Cannot encode the text as its regular expressions must run in time: they ran longer", {
    hint: "Split the text, or load the tokenizer with trust: true if you know who wrote it.",
  });
}
