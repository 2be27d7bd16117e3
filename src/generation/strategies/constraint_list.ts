/**
 * How far a sequence has come with all its constraints.
 *
 * @module
 */
import type { Constraint } from "./constraints.ts";

/** A state of all constraints; one is in progress at most. */
export interface ConstraintList {
  /** As they are before the first token, without those in progress or fulfilled. */
  pending: readonly Constraint[];
  /** The one in progress, and what it was at first. */
  current?: { state: Constraint; initial: Constraint };
  /** How many are fulfilled. */
  fulfilled: number;
}

/** The state before the first token. */
export function newConstraintList(constraints: readonly Constraint[]): ConstraintList {
  return { pending: constraints, fulfilled: 0 };
}

/** The state after all of `ids`. */
export function constraintsAfter(constraints: readonly Constraint[], ids: readonly number[]): ConstraintList {
  return ids.reduce(addToken, newConstraintList(constraints));
}

/** Whether every constraint is fulfilled. */
export function allFulfilled({ pending, current }: ConstraintList): boolean {
  return pending.length === 0 && !current;
}

/** The state after one more token. */
export function addToken(list: ConstraintList, token: number): ConstraintList {
  const { pending, current, fulfilled } = list;
  if (current) {
    const state = current.state.step(token);
    if (!state) return { pending: [...pending, current.initial], fulfilled };
    return state.completed ? { pending, fulfilled: fulfilled + 1 } : { ...list, current: { ...current, state } };
  }
  const at = pending.findIndex((constraint) => constraint.advances.includes(token));
  if (at === -1) return list;
  const initial = pending[at]!, state = initial.step(token)!, rest = pending.toSpliced(at, 1);
  return state.completed
    ? { pending: rest, fulfilled: fulfilled + 1 }
    : { pending: rest, current: { state, initial }, fulfilled };
}

/** Tokens that bring the sequence forward. */
export function advances({ pending, current }: ConstraintList): number[] {
  return current ? [...current.state.advances] : pending.flatMap((constraint) => [...constraint.advances]);
}

/** How far it has come, in tokens; `longest` is the length of the longest constraint. */
export function progress({ current, fulfilled }: ConstraintList, longest: number): number {
  return fulfilled * longest + (current ? longest - current.state.remaining : 0);
}
