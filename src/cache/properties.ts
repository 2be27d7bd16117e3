/** What a kind of cache is good for, as Transformers' documents tabulate it. */
export interface CacheProperties {
  /** It needs less memory on the GPU than one that holds everything there. */
  readonly memoryEfficient: boolean;
  /** Its buffers have fixed addresses and shapes while tokens are generated. */
  readonly compile: boolean;
  /** It is best made before generation, with the sizes that will be needed. */
  readonly initRecommended: boolean;
  /** Tokens a second beside the other kinds: "high" is fast. */
  readonly latency: "low" | "mid" | "high";
  /** It suits long contexts. */
  readonly longContext: boolean;
}

/** Of caches whose buffers never move. */
export const FIXED: CacheProperties = {
  memoryEfficient: false,
  compile: true,
  initRecommended: true,
  latency: "high",
  longContext: false,
};

/** Of caches that take less of the GPU's memory and more time. */
export const COMPACT: CacheProperties = {
  memoryEfficient: true,
  compile: false,
  initRecommended: false,
  latency: "low",
  longContext: true,
};
