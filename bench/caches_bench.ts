/**
 * Every cache beside the others: bytes a token, and CPU time and clock of a decoded token after prefixes of some lengths.
 *
 *     deno run -A bench/caches_bench.ts [--lengths 512,4096] [--long] [--tokens 16] [--rounds 3] [--only paged,static]
 *
 * `--long` adds 16,384 tokens. The model is random, made in memory; the steps of all caches are interleaved, so that what
 * else the machine does falls on all of them. `--json` prints lines of JSON.
 */
import {
  DynamicCache,
  HybridCache,
  type KvCache,
  OffloadedCache,
  OffloadedStaticCache,
  openDevice,
  PagedCache,
  QuantizedCache,
  SinkCache,
  SlidingWindowCache,
  StaticCache,
} from "../mod.ts";
