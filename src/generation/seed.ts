/**
 * Seeds of draws that name none.
 *
 * @module
 */
import { gumbelNoise } from "../ops/sample_logits.ts";
import { ValueError } from "../errors.ts";

let state: { seed: number; drawn: number } | undefined;

/**
 * Fixes the seeds of all generations that follow and pass none: the same calls then draw the same tokens. Every
 * generation draws from a seed of its own.
 *
 * The numbers are the same on every backend, but not those of PyTorch.
 *
 * @param seed a whole number from 0; undefined for random seeds again
 *
 * @example
 * ```ts
 * import { setSeed } from "@tensaur/tensaur";
 * setSeed(42);
 * setSeed(undefined);
 * ```
 */
export function setSeed(seed: number | undefined): void {
  if (seed !== undefined && !(Number.isSafeInteger(seed) && seed >= 0)) {
    throw new ValueError(`Cannot set the seed as it must be a whole number from 0: current value is ${seed}`);
  }
  state = seed === undefined ? undefined : { seed, drawn: 0 };
}

/** The seed of a generation that was given none. */
export function nextSeed(): number {
  if (!state) return crypto.getRandomValues(new Uint32Array(1))[0]!;
  const noise = gumbelNoise(state.seed, state.drawn++, 0x5eed)(0);
  return Math.floor(Math.exp(-Math.exp(-noise)) * 2 ** 32);
}
