/**
 * Mamba: a convolution and a selective scan instead of attention; its layers keep states, not keys.
 * https://arxiv.org/abs/2312.00752
 *
 * @module
 */
import { NotSupportedError } from "../errors.ts";
import { causalConv1d, rmsNorm, selectiveScan, sliceColumns } from "../ops/mod.ts";
import { type Embedding, type Linear, tiedEmbedding } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { WeightSource } from "../weights/source.ts";
import { ConfigReader } from "./config.ts";
import { defineFamily, embed, type Family, type FamilyConfig, layer, loadLayers, type Pass } from "./family.ts";

interface MambaConfig extends FamilyConfig {
  states: NonNullable<FamilyConfig["states"]>;
  timeStepRank: number;
  useBias: boolean;
  useConvBias: boolean;
  eps: number;
  tieWordEmbeddings: boolean;
}

interface MambaLayer {
  norm: Tensor; // [D]
  inProj: Linear; // D -> 2 I
  conv: Tensor; // [I, 1, K]
  convBias?: Tensor; // [I]
  xProj: Linear; // I -> R + 2 N
  dtProj: Linear; // R -> I
  aLog: Tensor; // [I, N]
  d: Tensor; // [I]
  outProj: Linear; // I -> D
}

interface MambaWeights {
  tied?: Linear; // D -> V
  embeddings: Embedding; // V x D
  layers: MambaLayer[];
  norm: Tensor; // [D]
}

/** The Mamba family. */
export const mamba: Family = defineFamily<MambaConfig, MambaWeights>({
  modelTypes: ["mamba"],
  prefix: "backbone.",
  ignore: [],
  config(json) {
    const read = new ConfigReader("mamba", json);
    read.neutral("hidden_act", "silu");
    const D = read.count("hidden_size"), layers = read.layers("num_hidden_layers");
    const I = read.count("intermediate_size", D * read.count("expand", 2));
    const rank = json.time_step_rank === "auto" ? undefined : json.time_step_rank;
    const one = { scale: 1, causal: true };
    return {
      hiddenSize: D,
      ...{ heads: 1, kvHeads: 1, headDim: 1 }, // there are none
      vocabSize: read.count("vocab_size"),
      maxPositionEmbeddings: 2 ** 30, // it has no positions
      attention: Array.from({ length: layers }, () => one),
      states: {
        layers,
        intermediateSize: I,
        convKernel: read.count("conv_kernel", 4, 2, 64),
        stateSize: read.count("state_size", 16, 1, 1024),
      },
      timeStepRank: rank === undefined ? Math.ceil(D / 16) : read.count("time_step_rank"),
      useBias: read.flag("use_bias", false),
      useConvBias: read.flag("use_conv_bias", true),
      eps: read.positive("layer_norm_epsilon", 1e-5),
      tieWordEmbeddings: read.flag("tie_word_embeddings", true),
    };
  },
  async weights(source: WeightSource, c) {
    const D = c.hiddenSize, R = c.timeStepRank, bias = c.useBias;
    const { intermediateSize: I, stateSize: N, convKernel: K } = c.states;
    const tied = c.tieWordEmbeddings ? await source.linear("backbone.embeddings", D, c.vocabSize) : undefined;
    return {
      tied,
      embeddings: tied ? tiedEmbedding(tied) : await source.embedding("backbone.embeddings", c.vocabSize, D),
      layers: await loadLayers(c.attention.length, async (i) => {
        const at = `backbone.layers.${i}`, mixer = `${at}.mixer`;
        return {
          norm: await source.vector(`${at}.norm.weight`, D),
          inProj: await source.linear(`${mixer}.in_proj`, D, 2 * I, { bias }),
          conv: await source.vector(`${mixer}.conv1d.weight`, [I, 1, K]),
          convBias: c.useConvBias ? await source.vector(`${mixer}.conv1d.bias`, I) : undefined,
          xProj: await source.linear(`${mixer}.x_proj`, I, R + 2 * N),
          dtProj: await source.linear(`${mixer}.dt_proj`, R, I, { bias: true }),
          aLog: await source.vector(`${mixer}.A_log`, [I, N]),
          d: await source.vector(`${mixer}.D`, I),
          outProj: await source.linear(`${mixer}.out_proj`, I, D, { bias }),
        };
      }),
      norm: await source.vector("backbone.norm_f.weight", D),
    };
  },
  forward(c, w, pass: Pass): Tensor {
    const { batch: { cuSeqlens }, cache } = pass, { eps } = c;
    const { intermediateSize: I, convKernel: K } = c.states;
    let x = embed(w.embeddings, pass.batch); // [T, D]
    for (const [i, l] of w.layers.entries()) {
      const collecting = i === 0 ? { ...pass, hiddenStates: undefined } : pass; // here the embeddings are no hidden state
      x = layer(collecting, x, (x) => {
        const { conv, ssm } = statesOf(pass, i);
        const xz = l.inProj.forward(x, { norm: { weight: l.norm, eps } }); // [T, 2·I]
        const kernel = { weight: l.conv.reshape([I, K]), bias: l.convBias, states: conv, cuSeqlens };
        const u = causalConv1d(xz, kernel); // [T, I]
        const bc = l.xProj.forward(u); // [T, R + 2·N]
        const dt = l.dtProj.forward(sliceColumns(bc, 0, c.timeStepRank)); // [T, I]
        const y = selectiveScan(u, { dt, aLog: l.aLog, bc, d: l.d, z: xz, states: ssm, cuSeqlens }); // [T, I]
        return l.outProj.forward(y, { residual: x }); // [T, D]
      });
    }
    cache.advance(pass.batch);
    const y = rmsNorm(x, w.norm, eps); // [T, D]
    if (pass.hiddenStates) pass.hiddenStates.push(x, y);
    else x.dispose();
    return y;
  },
  heads: {
    MambaForCausalLM: {
      task: "causal-lm",
      perToken: true,
      async load(source, c, w) {
        const output = w.tied ?? await source.linear("lm_head", c.hiddenSize, c.vocabSize);
        return (hidden) => output.forward(hidden); // [T, V]
      },
    },
  },
});

function statesOf({ batch, cache }: Pass, layer: number): { conv: Tensor; ssm: Tensor } {
  const { device } = batch.tokens;
  const conv = cache.convStates?.(device, layer), ssm = cache.ssmStates?.(device, layer);
  if (conv && ssm) return { conv, ssm };
  throw new NotSupportedError(
    "Cannot run a state-space model as its cache must be a MambaCache: this one keeps no states",
    {
      hint: "Use model.newCache().",
    },
  );
}
