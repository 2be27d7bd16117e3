const { fround, log } = Math;

/**
 * Buckets of T5's relative positions: for the key's place less its query's, from -`maxDistance` to `maxDistance`; farther
 * ones are in the outermost.
 *
 * Source: https://arxiv.org/abs/1910.10683
 *
 * @param count number of buckets
 * @param bidirectional later keys have half of the buckets; else all keys after the query share one
 * @returns [2 · maxDistance + 1]
 */
export function relativeBuckets(count: number, maxDistance: number, bidirectional: boolean): Uint32Array {
  const most = bidirectional ? Math.floor(count / 2) : count, exact = Math.floor(most / 2);
  // in float32, as PyTorch does it: where a bucket ends is a matter of rounding
  const spread = fround(log(maxDistance / exact));
  const bucket = (n: number) => {
    if (n < exact) return n;
    const far = fround(fround(fround(log(fround(n / exact))) / spread) * (most - exact));
    return Math.min(exact + Math.trunc(far), most - 1);
  };
  return Uint32Array.from({ length: 2 * maxDistance + 1 }, (_, i) => {
    const place = i - maxDistance; // of the key, less the query's
    if (bidirectional) return bucket(Math.abs(place)) + (place > 0 ? most : 0);
    return bucket(Math.max(0, -place));
  });
}
