/**
 * Whether a regular expression can backtrack for long: a small parser that counts what a failing match would try again.
 *
 * A choice counts when something after it can fail: then the engine comes back and tries the choice's next value.
 * One choice over the length of the text is linear work for one start; two of them, one within the other or one after
 * the other, are quadratic or worse, and those patterns are refused.
 *
 * @module
 */

// More repeats than this are as many as the text is long.
const MANY = 32;
// How many short choices may multiply.
const MAX_FACTOR = 64;

/** What a piece of a pattern costs at one start. */
interface Cost {
  /** Choices over the length of the text, multiplied: 1 is linear, 2 quadratic. */
  choices: number;
  /** Reading over the length of the text without choices: 1 is linear. */
  scans: number;
  /** Short choices, multiplied. */
  factor: number;
}

type Node =
  | { kind: "char" }
  | { kind: "look"; body: Node }
  | { kind: "alternatives"; of: Node[][] }
  | { kind: "repeat"; body: Node; min: number; max: number };

/** Why `source`, a JavaScript pattern with the "u" flag, is not safe on hostile text; undefined where it is. */
export function findBacktracking(source: string): string | undefined {
  const parser = new Parser(source);
  try {
    const { choices, scans, factor } = cost(parser.parse(), false);
    if (choices > 1) return "repeats follow or contain each other";
    if (scans > 1) return "a repeat looks ahead or behind without bound";
    if (factor > MAX_FACTOR) return `it has more than ${MAX_FACTOR} ways to match one place`;
  } catch (error) {
    if (error instanceof Refusal) return error.message;
    throw error;
  }
}

class Refusal extends Error {}

class Parser {
  readonly #source: string;
  #at = 0;
  #depth = 0;

  constructor(source: string) {
    this.#source = source;
  }

  parse(): Node {
    const node = this.#alternatives();
    if (this.#at < this.#source.length) throw new Refusal("it is malformed");
    return node;
  }

  #alternatives(): Node {
    if (++this.#depth > 50) throw new Refusal("it is nested more than 50 deep");
    const of: Node[][] = [[]];
    while (this.#at < this.#source.length && this.#source[this.#at] !== ")") {
      if (this.#source[this.#at] === "|") {
        this.#at++;
        of.push([]);
        continue;
      }
      const body = this.#atom();
      if (body) of.at(-1)!.push(this.#quantified(body));
    }
    this.#depth--;
    return { kind: "alternatives", of };
  }

  /** The next atom; undefined for one that takes no text and cannot be repeated. */
  #atom(): Node | undefined {
    const rest = this.#source.slice(this.#at, this.#at + 64);
    const group = /^\((?:\?(?:<?[=!]|:|<[^=!>]*>|[a-z-]+:)?)?/.exec(rest);
    if (group) {
      this.#at += group[0].length;
      const body = this.#alternatives();
      if (this.#source[this.#at++] !== ")") throw new Refusal("it is malformed");
      return /[=!]$/.test(group[0]) ? { kind: "look", body } : body;
    }
    if (/^\\(?:[1-9]|k)/.test(rest)) throw new Refusal("it has a backreference");
    if (rest[0] === "[") {
      this.#at++;
      while (this.#source[this.#at] !== "]") {
        this.#at += this.#source[this.#at] === "\\" ? 2 : 1;
        if (this.#at >= this.#source.length) throw new Refusal("it is malformed");
      }
      this.#at++;
      return { kind: "char" };
    }
    const simple = /^(?:\\[pPu]\{[^}]*\}|\\x..|\\u....|\\c.|\\[^]|[^])/u.exec(rest)![0];
    this.#at += simple.length;
    return /^(?:[\^$]|\\[bB])$/.test(simple) ? { kind: "look", body: { kind: "char" } } : { kind: "char" };
  }

  #quantified(body: Node): Node {
    const found = /^(?:[*+?]|\{(\d+)(,(\d*))?\})\??/.exec(this.#source.slice(this.#at, this.#at + 32));
    if (!found) return body;
    this.#at += found[0].length;
    const [text, least, range, most] = found;
    if (least !== undefined) {
      const min = Number(least);
      return { kind: "repeat", body, min, max: range === undefined ? min : most ? Number(most) : Infinity };
    }
    return { kind: "repeat", body, min: text[0] === "+" ? 1 : 0, max: text[0] === "?" ? 1 : Infinity };
  }
}

/** The cost of `node`, where `fails` says whether what follows it can fail. */
function cost(node: Node, fails: boolean): Cost {
  switch (node.kind) {
    case "char":
      return { choices: 0, scans: 0, factor: 1 };
    case "look":
      return cost(node.body, false); // what matched inside is never tried again
    case "alternatives": {
      const all = node.of.map((nodes) => sequenceCost(nodes, fails));
      return {
        choices: Math.max(...all.map((c) => c.choices)),
        scans: Math.max(...all.map((c) => c.scans)),
        factor: all.reduce((sum, c) => sum + c.factor, 0),
      };
    }
    case "repeat":
      return repeatCost(node.body, node.min, node.max, fails);
  }
}

function sequenceCost(nodes: readonly Node[], fails: boolean): Cost {
  const total = { choices: 0, scans: 0, factor: 1 };
  for (const node of nodes.toReversed()) {
    const c = cost(node, fails);
    total.choices += c.choices;
    total.scans = Math.max(total.scans, c.scans);
    total.factor *= c.factor;
    fails ||= !(node.kind === "repeat" && node.min === 0);
  }
  return total;
}

function repeatCost(body: Node, min: number, max: number, fails: boolean): Cost {
  const many = max > MANY;
  const inner = cost(body, fails || max > 1);
  if (max > 1 && hasChoice(body)) throw new Refusal("a repeat contains a choice");
  const scans = inner.scans + (many ? 1 : 0);
  if (!fails || max === min) return { choices: inner.choices, scans, factor: inner.factor };
  const unbounded = max - min > MANY;
  return {
    choices: inner.choices + (unbounded ? 1 : 0),
    scans,
    factor: inner.factor * (unbounded ? 1 : max - min + 1),
  };
}

/** Whether `node` can match in several ways from one start. */
function hasChoice(node: Node): boolean {
  switch (node.kind) {
    case "char":
    case "look":
      return false;
    case "alternatives":
      return node.of.length > 1 || node.of[0]!.some(hasChoice);
    case "repeat":
      return node.min !== node.max || hasChoice(node.body);
  }
}
