/** Every reference model gives in float32 what transformers gives: within 1e-4 of the largest magnitude. */
import { assert, assertEquals } from "@std/assert";
import { DynamicCache, MambaCache, StaticCache } from "../../src/cache/mod.ts";
import { loadModel, type Model, type ModelOutput } from "../../src/models/mod.ts";
import { normalize, poolRows } from "../../src/ops/mod.ts";
import { type Tensor, tensor } from "../../src/tensor/mod.ts";
import { testDevice } from "../helpers.ts";
import { hasReference } from "../reference.ts";
import {
  argmaxOf,
  assertWithin,
  chunked,
  type ForwardCase,
  forwardCases,
  inputsOf,
  modelPath,
  realRows,
  REFERENCE_MODELS,
  softmaxOf,
} from "./fixture.ts";

const BOUND = 1e-4;
const device = await testDevice();

if (!hasReference()) Deno.test({ name: "skipped: the reference models are not there", ignore: true, fn() {} });

for (const name of REFERENCE_MODELS) {
  for (const c of await forwardCases(name)) {
    Deno.test(`Model.forward() gives transformers' values: ${name} ${c.name}`, async () => {
      const before = device.pool.stats.bytesInUse;
      {
        using model = await loadModel(modelPath(name), { device, dtype: "float32" });
        using output = await model.forward(inputsOf(c), { outputHiddenStates: true, outputAttentions: true });
        assertEquals(output.attentions!.length, name === "mamba" ? 0 : model.sizes.attention.length);
        await checkTensors(output, c);
        if (model.task === "base") await checkEmbedding(output, c);
        else await checkHead(model, output, c);
      }
      assertEquals(device.pool.stats.bytesInUse, before, "bytes that were not returned");
    });
  }
}

for (const name of REFERENCE_MODELS) {
  const cases = await forwardCases(name);
  const batch = cases.find((c) => c.name === "forward_batch" && c.outputs.logits?.shape.length === 3);
  if (batch) {
    Deno.test(`Model.forward() gives them with pads on either side or none: ${name}`, async () => {
      const { input_ids: ids, attention_mask: mask, token_type_ids: types } = batch.inputs;
      const real = <T>(rows: T[][]) => rows.map((row, b) => row.filter((_, s) => mask[b]![s]));
      const rows = { inputIds: real(ids), tokenTypeIds: types && real(types) };
      const width = ids[0]!.length;
      const places = (left: boolean) => filled(rows.inputIds.map((row) => row.map(() => 1)), width, left);
      const pad = (left: boolean) => ({
        inputIds: filled(rows.inputIds, width, left),
        tokenTypeIds: types && filled(rows.tokenTypeIds!, width, left),
        attentionMask: places(left),
      });
      using model = await loadModel(modelPath(name), { device, dtype: "float32" });
      const want = realRows(floats(batch.outputs.logits!), mask);
      for (const [inputs, left] of [[rows, false], [pad(true), true], [pad(false), false]] as const) {
        using output = await model.forward(inputs);
        assertWithin("logits", realRows(await output.logits!.read(), places(left)), want, BOUND);
      }
    });
  }

  const single = cases.find((c) => c.name === "forward_single");
  const states = { layers: 3, intermediateSize: 128, convKernel: 4, stateSize: 8 };
  const caches = name === "mamba" ? [() => new MambaCache(states)] : [
    () => new DynamicCache(),
    () => new StaticCache({ maxCacheLen: single!.inputs.input_ids[0]!.length }),
  ];
  for (const make of single ? caches : []) {
    Deno.test(`Model.forward() gives them in four calls with a ${make().constructor.name}: ${name}`, async () => {
      const [ids] = single!.inputs.input_ids as [number[]];
      using model = await loadModel(modelPath(name), { device, dtype: "float32" });
      using cache = make();
      const got: number[] = [];
      const cuts = [0, 13, 14, 25, ids.length];
      for (const [i, start] of cuts.slice(0, -1).entries()) {
        using output = await model.forward({ inputIds: [ids.slice(start, cuts[i + 1])] }, { cache });
        assert(output.cache === cache);
        got.push(...await output.logits!.read());
      }
      assertWithin("logits", got, floats(single!.outputs.logits!), BOUND);
    });
  }
}

/** Rows filled up with zeros to `width`. */
function filled(rows: number[][], width: number, left: boolean): number[][] {
  return rows.map((row) => {
    const pads = Array<number>(width - row.length).fill(0);
    return left ? [...pads, ...row] : [...row, ...pads];
  });
}

/** Logits, hidden states, attentions and the pooled output; values at padded places are zero on both sides. */
async function checkTensors(output: ModelOutput, { inputs, outputs }: ForwardCase): Promise<void> {
  const [B, S] = [inputs.input_ids.length, inputs.input_ids[0]!.length];
  const compare = async (what: string, got: Tensor | undefined, want: ArrayLike<number>) => {
    assert(got, `${what} did not come`);
    assertWithin(what, await got.read(), want, BOUND);
  };
  const layers = output.hiddenStates!.length - 1;
  for (const [i, want] of Object.entries(outputs.hidden_states ?? {})) {
    assertEquals(output.hiddenStates![Number(i)]!.shape, want.shape);
    await compare(`hidden state ${i}`, output.hiddenStates![Number(i)], floats(want));
  }
  if (outputs.hidden_states) await compare("last", output.lastHiddenState, floats(outputs.hidden_states[layers]!));
  for (const [i, want] of Object.entries(outputs.attentions ?? {})) {
    assertEquals(want.shape, output.attentions![Number(i)]!.shape);
    await compare(`attentions ${i}`, output.attentions![Number(i)], floats(want));
  }
  if (outputs.logits) {
    assertEquals(output.logits?.shape, outputs.logits.shape);
    await compare("logits", output.logits, floats(outputs.logits));
  }
  if (outputs.last_logits) {
    const V = output.logits!.shape[2]!, all = chunked(await output.logits!.read(), V);
    const last = Array.from({ length: B }, (_, b) => all[b * S + S - 1]!).flat();
    assertWithin("last logits", last, floats(outputs.last_logits), BOUND);
  }
  if (outputs.pooler_output) await compare("pooler output", output.poolerOutput, floats(outputs.pooler_output));
  if (outputs.start_logits) {
    const pairs = chunked(await output.logits!.read(), 2);
    assertWithin("start logits", pairs.map(([start]) => start!), floats(outputs.start_logits), BOUND);
    assertWithin("end logits", pairs.map(([, end]) => end!), floats(outputs.end_logits!), BOUND);
  }
}

/** What a person reads off the logits. */
async function checkHead(model: Model, output: ModelOutput, c: ForwardCase): Promise<void> {
  const { input_ids: ids, attention_mask: mask } = c.inputs;
  const all = [...await output.logits!.read()];
  const rows = chunked(all, output.logits!.shape.at(-1)!);
  const label = (row: number[]) => (model.config.id2label as Record<string, string>)[argmaxOf(row)]!;
  if (model.task === "sequence-classification") {
    assertWithin("probabilities", rows.flatMap(softmaxOf), floats(c.outputs.probabilities!), BOUND);
    assertEquals(rows.map(label), c.labels as string[]);
  }
  if (model.task === "token-classification") {
    const labels = chunked(realRows(all, mask), output.logits!.shape[2]!).map(label);
    assertEquals(labels, c.labels!.flat());
  }
  if (model.task === "masked-lm") {
    const MASK = 4; // id of [MASK] in this vocabulary
    const masked = rows.filter((_, i) => ids.flat()[i] === MASK).map(softmaxOf);
    const top = masked.map((p) => [...p.keys()].sort((a, b) => p[b]! - p[a]!).slice(0, 5));
    assertEquals(top, c.top5_ids);
    assertWithin(
      "top 5",
      top.flatMap((t, i) => t.map((v) => masked[i]![v]!)),
      floats(c.outputs.top5_probabilities!),
      BOUND,
    );
  }
  if (model.task === "question-answering") {
    const best = [0, 1].map((part) =>
      ids.map((row, b) => argmaxOf(row.map((_, s) => mask[b]![s] ? rows[b * row.length + s]![part]! : -Infinity)))
    );
    assertEquals(best, c.best_start_end as number[][]);
  }
}

/** The mean of the real tokens, scaled to length 1. */
async function checkEmbedding({ lastHiddenState }: ModelOutput, { inputs, outputs }: ForwardCase): Promise<void> {
  const D = lastHiddenState!.shape[2]!;
  assertWithin("last hidden state", await lastHiddenState!.read(), floats(outputs.last_hidden_state!), BOUND);
  const packed = realRows(await lastHiddenState!.read(), inputs.attention_mask);
  const ends = inputs.attention_mask.reduce((e, row) => [...e, e.at(-1)! + row.filter(Boolean).length], [0]);
  using x = tensor(device, packed, [packed.length / D, D]);
  using cuSeqlens = tensor(device, ends, [ends.length], "uint32");
  using mean = poolRows(x, cuSeqlens, "mean");
  using unit = normalize(mean);
  assertWithin("sentence embedding", await unit.read(), floats(outputs.sentence_embedding!), BOUND);
}

function floats(t: { data: unknown }): Float32Array {
  return t.data as Float32Array;
}
