/**
 * Arithmetic on scores [V] that searches share: float32 like the logits, summed in double precision.
 *
 * @module
 */

/** Numbers in [0, 1). */
export type Random = () => number;

/** `log(softmax(x))`. */
export function logSoftmax(x: Float32Array): Float32Array {
  let most = -Infinity, sum = 0;
  for (const v of x) if (v > most) most = v;
  for (const v of x) sum += Math.exp(v - most);
  const norm = most + Math.log(sum);
  return x.map((v) => v - norm);
}

/** `softmax(x)`. */
export function softmax(x: Float32Array): Float32Array {
  return logSoftmax(x).map(Math.exp);
}

/** Index of the greatest, the first of several. */
export function argmax(x: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < x.length; i++) if (x[i]! > x[best]!) best = i;
  return best;
}

/** Indices of the `k` greatest, greatest first; of equals the lower index first. NaN is never among them. */
export function topK(x: ArrayLike<number>, k: number): number[] {
  const best: number[] = [];
  for (let i = 0; i < x.length; i++) {
    const v = x[i]!;
    if (best.length === k && !(v > x[best[k - 1]!]!) || Number.isNaN(v)) continue;
    let at = best.length < k ? best.length : k - 1;
    for (; at > 0 && x[best[at - 1]!]! < v; at--) best[at] = best[at - 1]!;
    best[at] = i;
  }
  return best;
}

/** An index drawn with the given weights, which need not sum to 1. */
export function draw(weights: ArrayLike<number>, random: Random): number {
  let sum = 0, last = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]!;
  let rest = random() * sum;
  for (let i = 0; i < weights.length; i++) {
    if (!(weights[i]! > 0)) continue;
    last = i;
    rest -= weights[i]!;
    if (rest < 0) break;
  }
  return last;
}

/**
 * `k` different indices drawn from `softmax(x)` one after the other, in the order of their draws (the Gumbel trick).
 *
 * Source: Kool et al. 2019, https://arxiv.org/abs/1903.06059
 */
export function drawDistinct(x: ArrayLike<number>, k: number, random: Random): number[] {
  const keys = Float64Array.from(x, (v) => v - Math.log(-Math.log(random() || Number.MIN_VALUE)));
  return topK(keys, k).filter((i) => keys[i]! > -Infinity);
}

/** Uniform numbers that depend only on `seed` (the small fast counting generator of 128 bits). */
export function seededRandom(seed: number): Random {
  let a = seed >>> 0, b = Math.floor(seed / 2 ** 32) >>> 0, c = 0x9e3779b9, counter = 1;
  const next = () => {
    const sum = (a + b + counter) >>> 0;
    counter = (counter + 1) >>> 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) >>> 0;
    c = ((c << 21) | (c >>> 11)) + sum >>> 0;
    return sum;
  };
  for (let i = 0; i < 12; i++) next();
  return () => (next() * 2 ** 21 + (next() >>> 11)) / 2 ** 53;
}
