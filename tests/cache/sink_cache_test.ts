/** The sink cache: keys at their slots, logits of a model, and the same step by step as Transformers 4.44's. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { packBatch, SinkCache } from "../../src/cache/mod.ts";
import { LimitError, ValueError } from "../../src/errors.ts";
import { loadModel, RopeTable } from "../../src/models/mod.ts";
import { ropeConfig } from "../../src/models/rope.ts";
import { rotaryEmbedding, rotaryEmbeddingReference } from "../../src/ops/rotary_embedding.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, randn, testDevice } from "../helpers.ts";
import { goldenCases, type GoldenTensor, hasReference, referencePath } from "../reference.ts";

const device = await testDevice();

/** Runs `n` tokens through a layer of 2 heads, rotated where the cache says; k and v are [T, 2, D]. */
function run(cache: SinkCache, rope: RopeTable, k: Float32Array, v: Float32Array, past: number, n: number, D: number) {
  using batch = packBatch(device, Array(n).fill(0), Array.from({ length: n }, (_, i) => past + i), [n]);
  cache.reserve(1, [n]);
  tidy(device, () => {
    const seen = cache.prepare(batch, true), table = rope.table(seen.maxPosition);
    const part = (x: Float32Array) => tensor(device, x.subarray(past * 2 * D, (past + n) * 2 * D), [n, 2, D]);
    const keys = rotaryEmbedding(part(k), table, seen.positions);
    cache.attend(0, part(v), keys, part(v), batch, { scale: 1, causal: true, rotary: { table } });
  });
  cache.advance(batch);
  cache.advanced([n]);
}

interface SinkCase {
  params: { head_dim: number; window_length: number; num_sink_tokens: number; prefill: number; rotary_dim: number };
  inputs: { keys_before_rotation: GoldenTensor; values: GoldenTensor };
  outputs: { lengths: number[]; cached_keys: GoldenTensor; cached_values: GoldenTensor };
}

for (const { name, params: p, inputs, outputs } of await goldenCases<SinkCase>("data/ops/sink_cache", "sink_cache")) {
  const D = p.head_dim, W = p.window_length;
  Deno.test(`SinkCache with compat "446" holds what Transformers' does after each step: ${name}`, async () => {
    using cache = new SinkCache({ windowLength: W, numSinkTokens: p.num_sink_tokens, compat: "446" });
    using rope = new RopeTable(device, ropeConfig({ rope_theta: 10_000, rotary_dim: p.rotary_dim }, D));
    const tokens = inputs.values.shape[2]!;
    const [k, v] = [inputs.keys_before_rotation, inputs.values].map((t) =>
      tokenMajor(t.data as Float32Array, tokens, D)
    );
    let past = 0;
    for (const [step, length] of outputs.lengths.entries()) {
      const n = step === 0 ? p.prefill : 1;
      run(cache, rope, k!, v!, past, n, D);
      past += n;
      assertEquals(cache.getSeqLength(), length);
      const got = cache.at(0);
      for (const [i, want] of [outputs.cached_keys, outputs.cached_values].entries()) {
        const rows = want.data.subarray(step * 2 * W * D, (step + 1) * 2 * W * D) as Float32Array;
        const heads = [0, 1].flatMap((h) => [...rows.subarray(h * W * D, (h * W + length) * D)]);
        assertClose(`step ${step}, ${i ? "values" : "keys"}`, await got[i]!.read(), heads, { atol: 2e-5, rtol: 2e-5 });
        got[i]!.dispose();
      }
    }
  });
}

// window, sinks, tokens of each batch, dtype
const programs: [number, number, number[], "float32" | "float16"][] = [
  [6, 2, [4, 1, 1, 1, 3, 1, 4, 1, 1], "float32"],
  [6, 2, [1, 1, 1, 1, 1, 1, 1, 1, 1], "float16"],
  [8, 0, [8, 1, 8, 1], "float32"],
  [70, 3, [70, 67, 1, 1, 60], "float32"],
];
for (const [windowLength, numSinkTokens, steps, dtype] of programs) {
  Deno.test(`SinkCache keeps each key at its slot: window ${windowLength}, ${numSinkTokens} sinks, ${steps}`, async () => {
    using cache = new SinkCache({ windowLength, numSinkTokens, dtype });
    using rope = new RopeTable(device, ropeConfig({ rope_theta: 100 }, 8));
    const total = steps.reduce((sum, n) => sum + n, 0);
    const k = randn(total * 16, 1), v = randn(total * 16, 2);
    const table = await rope.table(256).read() as Float32Array;
    let held: number[] = [], past = 0;
    for (const n of steps) {
      run(cache, rope, k, v, past, n, 8);
      const fresh = Array.from({ length: n }, (_, i) => past + i);
      const keep = Math.max(0, windowLength - n - numSinkTokens);
      held = held.length + n <= windowLength
        ? [...held, ...fresh]
        : [...held.slice(0, numSinkTokens), ...held.slice(held.length - keep, held.length), ...fresh];
      past += n;
      const want = rotaryEmbeddingReference(pick(k, held), table, [...held.keys()], 8, 4);
      const [keys, values] = cache.at(0);
      const close = dtype === "float16" ? { atol: 4e-3, rtol: 4e-3 } : { atol: 1e-5, rtol: 1e-5 };
      assertClose(`keys at ${past}`, headMajor(await keys.read(), held.length), [...want], close);
      assertClose(`values at ${past}`, headMajor(await values.read(), held.length), [...pick(v, held)], close);
      keys.dispose();
      values.dispose();
    }
  });
}

Deno.test("SinkCache takes back up to 64 tokens, also to before the window moved", () => {
  const v = randn(300 * 16, 2);
  using cache = new SinkCache({ windowLength: 16, numSinkTokens: 2 });
  using rope = new RopeTable(device, ropeConfig({ rope_theta: 100 }, 8));
  run(cache, rope, v, v, 0, 12, 8);
  for (let past = 12; past < 100; past++) run(cache, rope, v, v, past, 1, 8);
  cache.crop([70]);
  run(cache, rope, v, v, 70, 1, 8);
  for (let past = 71; past < 290; past += 10) run(cache, rope, v, v, past, 10, 8);
  assertThrows(() => cache.crop([20]), ValueError, "went on to 291");
});

Deno.test("SinkCache refuses inputs and sizes that cannot be", () => {
  using cache = new SinkCache({ windowLength: 8, numSinkTokens: 2 });
  assertThrows(() => cache.reserve(1, [9]), LimitError, "must have at most its 8 tokens: row 0 has 9");
  const v = randn(40 * 16, 2);
  using rope = new RopeTable(device, ropeConfig({ rope_theta: 100 }, 8));
  run(cache, rope, v, v, 0, 8, 8);
  assertThrows(() => run(cache, rope, v, v, 8, 7, 8), LimitError, "at most 6 tokens of a sequence at once");
  for (const [windowLength, numSinkTokens] of [[0, 0], [4, 4], [4, -1], [1.5, 0]] as const) {
    assertThrows(() => new SinkCache({ windowLength, numSinkTokens }), ValueError, "Cannot make a SinkCache");
  }
});

interface LegacyCase {
  prefill: number;
  window_length: number;
  num_sink_tokens: number;
  rounding_max_abs_diff: number;
  inputs: { input_ids: number[][] };
  outputs: { logits: GoldenTensor; key_0: GoldenTensor; value_0: GoldenTensor };
}

for (const c of await goldenCases<LegacyCase>("data/generate/legacy-caches-llama", "sink")) {
  Deno.test(`a model on a SinkCache gives Transformers 4.44's logits step by step: ${c.name}`, async () => {
    using model = await loadModel(referencePath("data/models/llama"), { device, dtype: "float32" });
    using cache = new SinkCache({ windowLength: c.window_length, numSinkTokens: c.num_sink_tokens, compat: "446" });
    const [ids = []] = c.inputs.input_ids, V = 512;
    for (let at = 0; at < ids.length; at = Math.max(c.prefill, at + 1)) {
      const end = Math.max(c.prefill, at + 1);
      using output = await model.forward({ inputIds: [ids.slice(at, end)] }, { cache });
      const want = (c.outputs.logits.data as Float32Array).subarray(at * V, end * V);
      assertClose(`logits of token ${at}`, await output.logits!.read(), want, {
        atol: 10 * c.rounding_max_abs_diff,
        rtol: 1e-4,
      });
    }
    const [k, v] = cache.at(0);
    assertClose("keys of layer 0", await k.read(), c.outputs.key_0.data as Float32Array, { atol: 1e-4, rtol: 1e-4 });
    assertClose("values of layer 0", await v.read(), c.outputs.value_0.data as Float32Array, {
      atol: 1e-4,
      rtol: 1e-4,
    });
    k.dispose();
    v.dispose();
  });
}

if (hasReference("data/models/gpt2")) {
  Deno.test("a model with learned positions goes on past them on a SinkCache", async () => {
    using model = await loadModel(referencePath("data/models/gpt2"), { device, dtype: "float32" });
    using cache = new SinkCache({ windowLength: 16, numSinkTokens: 2 });
    const most = model.sizes.maxPositionEmbeddings;
    for (let i = 0; i < most + 4; i++) {
      using output = await model.forward({ inputIds: [[i % 7 + 1]] }, { cache });
      if (i < most) continue;
      assert((await output.logits!.read()).every(Number.isFinite));
    }
    assertEquals([cache.lengths, cache.getSeqLength()], [[most + 4], 16]);
  });
}

/** [1, 2, T, D] as [T, 2, D]. */
function tokenMajor(x: Float32Array, T: number, D: number): Float32Array {
  return Float32Array.from(x, (_, i) => x[((Math.floor(i / D) % 2) * T + Math.floor(i / D / 2)) * D + i % D]!);
}

/** [1, 2, T, 8] as [T, 2, 8]. */
function headMajor(x: ArrayLike<number>, T: number): number[] {
  return [...tokenMajor(Float32Array.from(x), T, 8)];
}

/** Rows of 16 elements. */
function pick(x: Float32Array, rows: readonly number[]): Float32Array {
  return Float32Array.from(rows.flatMap((row) => [...x.subarray(16 * row, 16 * row + 16)]));
}
