/** Every cache against transformers, step by step: `data/generate/caches-*` of the reference. */
import { assertEquals } from "@std/assert";
import {
  type Cache,
  DynamicCache,
  HybridCache,
  type KvCache,
  OffloadedCache,
  OffloadedStaticCache,
  PagedCache,
  SlidingWindowCache,
  StaticCache,
} from "../../src/cache/mod.ts";
import { generate } from "../../src/generation/mod.ts";
import { loadModel, type Model } from "../../src/models/mod.ts";
import { assertClose, testDevice } from "../helpers.ts";
import { assertWithin } from "../models/fixture.ts";
import { goldenCases, type GoldenTensor, hasReference, referencePath } from "../reference.ts";

interface Case {
  name: string;
  kind: "steps" | "prefix" | "crop" | "cache";
  prefill: number;
  chunk: number;
  crop_to: number;
  inputs: {
    input_ids: number[][];
    attention_mask: number[][];
    prefix_ids: number[][];
    continuations: number[][];
    next_ids: number[][];
  };
  outputs: { logits: GoldenTensor; sequences: number[][]; key_0: GoldenTensor; value_0: GoldenTensor };
}

const device = await testDevice();
const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1", maxCacheLen = 64;
const EXACT: Record<string, () => KvCache> = {
  dynamic: () => new DynamicCache(),
  static: () => new StaticCache({ maxCacheLen }),
  offloaded: () => new OffloadedCache(),
  offloaded_static: () => new OffloadedStaticCache({ maxCacheLen }),
  hybrid: () => new HybridCache({ maxCacheLen: 200 }), // longer than a ring: layers of a window get one
  paged: () => new PagedCache(),
};
const KINDS: Record<string, Record<string, () => KvCache>> = {
  llama: EXACT,
  mistral: { ...EXACT, sliding_window: () => new SlidingWindowCache({ slidingWindow: 8 }) },
  gemma2: FULL ? EXACT : { dynamic: EXACT.dynamic!, hybrid: EXACT.hybrid!, paged: EXACT.paged! }, // its kernels take long
};

if (!hasReference("data/generate")) {
  Deno.test({ name: "skipped: the goldens of caches are not there", ignore: true, fn() {} });
}

async function logits(model: Model, cache: Cache, inputIds: number[][]): Promise<Float32Array> {
  using output = await model.forward({ inputIds }, { cache });
  return await output.logits!.read() as Float32Array;
}

for (const [name, kinds] of Object.entries(KINDS)) {
  for (const c of await goldenCases<Case>(`data/generate/caches-${name}`)) {
    Deno.test(`every cache gives transformers' values: ${name} ${c.name}`, async (t) => {
      using model = await loadModel(referencePath(`data/models/${name}`), { device, dtype: "float32" });
      for (const [kind, make] of Object.entries(kinds)) await t.step(kind, () => check(model, make, c));
      await device.stream.settled();
    });
  }
}

async function check(model: Model, make: () => KvCache, { kind, prefill, chunk, crop_to, inputs, outputs }: Case) {
  using cache = make();
  if (kind === "cache") return await checkKeys(model, cache, inputs, outputs);
  const want = outputs.logits.data as Float32Array, [, S = 0, V = 0] = outputs.logits.shape;
  if (kind === "prefix") {
    await logits(model, cache, inputs.prefix_ids);
    for (const [i, ids] of inputs.continuations.entries()) {
      using fork = cache.fork();
      assertWithin(`fork ${i}`, await logits(model, fork, [ids]), want.subarray(i * S * V, (i + 1) * S * V), 1e-4);
      using again = cache.fork();
      const inputIds = [[...inputs.prefix_ids[0]!, ...ids]];
      const options = { cache: again, maxNewTokens: 16, doSample: false, eosTokenId: null };
      assertEquals((await generate(model, { inputIds }, options)).sequences[0], outputs.sequences[i]);
    }
    return assertEquals(cache.lengths, [inputs.prefix_ids[0]!.length]);
  }
  const [ids = []] = inputs.input_ids;
  if (kind === "crop") {
    await logits(model, cache, [ids]);
    cache.crop(crop_to);
    return assertWithin("after the crop", await logits(model, cache, inputs.next_ids), want, 1e-4);
  }
  using other = make();
  const ways = [[cache, prefill, 1, "single tokens"], [other, chunk, chunk, "chunks"]] as const;
  for (const [to, first, step, way] of ways) {
    for (let from = 0; from < ids.length;) {
      const until = Math.min(ids.length, from + (from === 0 ? first : step));
      const got = await logits(model, to, [ids.slice(from, until)]);
      assertWithin(`${way}, from ${from}`, got, want.subarray(from * V, until * V), 1e-4);
      from = until;
    }
  }
}

/** Keys and values of layer 0, whose rows transformers pads on the left and zeroes there. */
async function checkKeys(model: Model, cache: KvCache, inputs: Case["inputs"], { key_0, value_0 }: Case["outputs"]) {
  const { input_ids: inputIds, attention_mask: attentionMask } = inputs;
  (await model.forward({ inputIds, attentionMask }, { cache }))[Symbol.dispose]();
  const [, heads = 0, S = 0, dim = 0] = key_0.shape;
  for (const [i, { data }] of [key_0, value_0].entries()) {
    const t = cache.at(0)[i]!, got = await t.read();
    for (const [b, n] of cache.lengths.entries()) {
      for (let h = 0; h < heads; h++) {
        const at = (b * heads + h) * S * dim; // theirs ends where ours begins
        const ours = got.subarray(at, at + n * dim), theirs = data.subarray(at + (S - n) * dim, at + S * dim);
        assertClose(`part ${i}, row ${b}, head ${h}`, ours, theirs as Float32Array, { atol: 1e-5, rtol: 1e-4 });
      }
    }
  }
}
