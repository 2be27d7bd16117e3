/**
 * What a sequence must contain: a phrase, or one of several (semantics: G-56). Constraints are values: `step` gives
 * the next state.
 *
 * @module
 */
import { ValueError } from "../../errors.ts";

/** A state of one constraint. */
export interface Constraint {
  /** Tokens that bring it forward; none once it is fulfilled. */
  readonly advances: readonly number[];
  /** Whether it is fulfilled. */
  readonly completed: boolean;
  /** Tokens that are missing at most. */
  readonly remaining: number;
  /** Tokens that it needs at most. */
  readonly length: number;
  /** The state after `token`; undefined if it must begin anew. */
  step(token: number): Constraint | undefined;
}

/**
 * The tokens must occur one after the other.
 *
 * @throws {ValueError} if they are no tokens
 *
 * @example
 * ```ts
 * import { PhrasalConstraint } from "@tensaur/tensaur";
 * console.log(new PhrasalConstraint([33, 44]).step(33)?.remaining); // 1
 * ```
 */
export class PhrasalConstraint implements Constraint {
  readonly #tokens: readonly number[];
  readonly #at: number;

  /** The constraint with its first `at` tokens there. */
  constructor(tokenIds: readonly number[], at = 0) {
    if (!Array.isArray(tokenIds) || tokenIds.length === 0) {
      throw new ValueError(`\`tokenIds\` has to be a non-empty list, but is ${show(tokenIds)}.`);
    }
    if (!tokenIds.every(isToken)) {
      throw new ValueError(
        `Each list in \`tokenIds\` has to be a list of positive integers, but is ${show(tokenIds)}.`,
      );
    }
    this.#tokens = tokenIds;
    this.#at = at;
  }

  /** The next token. */
  get advances(): readonly number[] {
    return this.#tokens.slice(this.#at, this.#at + 1);
  }

  /** Whether all tokens are there. */
  get completed(): boolean {
    return this.remaining === 0;
  }

  /** Tokens that are missing. */
  get remaining(): number {
    return this.#tokens.length - this.#at;
  }

  /** Its number of tokens. */
  get length(): number {
    return this.#tokens.length;
  }

  /** The state after `token`. */
  step(token: number): PhrasalConstraint | undefined {
    return this.advances.includes(token) ? new PhrasalConstraint(this.#tokens, this.#at + 1) : undefined;
  }
}

/**
 * The tokens of one of several lists must occur one after the other.
 *
 * @throws {ValueError} if they are no tokens, or one list begins another
 *
 * @example
 * ```ts
 * import { DisjunctiveConstraint } from "@tensaur/tensaur";
 * console.log(new DisjunctiveConstraint([[1, 2], [3]]).advances); // [1, 3]
 * ```
 */
export class DisjunctiveConstraint implements Constraint {
  readonly #lists: readonly (readonly number[])[];
  readonly #seen: readonly number[];

  /** The constraint after the tokens `seen`. */
  constructor(nestedTokenIds: readonly (readonly number[])[], seen: readonly number[] = []) {
    if (seen.length === 0) checkNested(nestedTokenIds);
    this.#lists = nestedTokenIds;
    this.#seen = seen;
  }

  /** Tokens that may be next. */
  get advances(): readonly number[] {
    return [...new Set(this.#open.flatMap((list) => list.slice(this.#seen.length, this.#seen.length + 1)))];
  }

  /** Whether one list is there. */
  get completed(): boolean {
    return this.#open.some((list) => list.length === this.#seen.length);
  }

  /** Tokens that are missing at most. */
  get remaining(): number {
    return this.completed ? 0 : this.length - this.#seen.length;
  }

  /** Length of the longest list. */
  get length(): number {
    return Math.max(...this.#lists.map((list) => list.length));
  }

  /** The state after `token`. */
  step(token: number): DisjunctiveConstraint | undefined {
    return this.advances.includes(token) ? new DisjunctiveConstraint(this.#lists, [...this.#seen, token]) : undefined;
  }

  get #open(): (readonly number[])[] {
    return this.#lists.filter((list) => startsWith(list, this.#seen));
  }
}

/** `forceWordsIds` as constraints: a list of tokens is a phrase, a list of lists is a choice. */
export function constraintsOf(words: readonly (readonly number[] | readonly (readonly number[])[])[]): Constraint[] {
  const wrong = () => {
    throw new ValueError(
      "`forceWordsIds` has to either be a `List[List[List[int]]]` or `List[List[int]]` of positive integers, but is " +
        `${show(words)}.`,
    );
  };
  if (!Array.isArray(words) || words.length === 0) return wrong();
  return words.map((word) => {
    if (!Array.isArray(word) || word.length === 0) return wrong();
    if (!Array.isArray(word[0])) return word.every(isToken) ? new PhrasalConstraint(word) : wrong();
    const lists = word as readonly unknown[];
    if (!lists.every((list) => Array.isArray(list) && list.every(isToken))) return wrong();
    return new DisjunctiveConstraint(word as readonly (readonly number[])[]);
  });
}

function checkNested(lists: readonly (readonly number[])[]): void {
  const refuse = (rule: string) => {
    throw new ValueError(`${rule} ${show(lists)}.`);
  };
  if (!Array.isArray(lists) || lists.length === 0) refuse("`nestedTokenIds` has to be a non-empty list, but is");
  if (!lists.every(Array.isArray)) refuse("`nestedTokenIds` has to be a list of lists, but is");
  if (!lists.every((list) => list.every(isToken))) {
    refuse("Each list in `nestedTokenIds` has to be a list of positive integers, but is");
  }
  const begins = lists.some((a, i) => lists.some((b, j) => i !== j && startsWith(a, b)));
  if (begins) refuse("Each list in `nestedTokenIds` can't be a complete subset of another list, but is");
}

function startsWith(list: readonly number[], start: readonly number[]): boolean {
  return start.length <= list.length && start.every((token, i) => token === list[i]);
}

function isToken(id: unknown): boolean {
  return Number.isInteger(id) && (id as number) >= 0;
}

function show(value: unknown): string {
  return JSON.stringify(value)?.replaceAll(",", ", ") ?? String(value);
}
