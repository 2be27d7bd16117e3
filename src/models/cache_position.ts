import { ValueError } from "../errors.ts";

/**
 * Checks `cachePosition`: where the columns of the inputs stand in the cache, padding counted, one after the other.
 *
 * @param past real tokens that each row has in the cache
 * @param width columns of the inputs
 */
export function checkCachePosition(
  cachePosition: readonly number[] | undefined,
  past: readonly number[],
  width: number,
): void {
  if (!cachePosition) return;
  const least = Math.max(0, ...past), [first = least] = cachePosition;
  const follows = cachePosition.length === width && cachePosition.every((p, i) => p === first + i);
  if (follows && Number.isInteger(first) && first >= least) return;
  throw new ValueError(
    `Cannot run the model as cachePosition must be ${width} whole numbers in a row from ${least} on, what the cache ` +
      `holds: current value is ${cachePosition}`,
  );
}
