/**
 * Whisper: two convolutions over log-mel features, an encoder, and a decoder that writes what was said.
 * https://arxiv.org/abs/2212.04356
 *
 * @module
 */
import { ShapeError } from "../errors.ts";
import { add, mul, unfold } from "../ops/mod.ts";
import { type Embedding, type Linear, tiedEmbedding } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import { type BartConfig, bartConfig, type BartLayer, bartLayers, bartNorm, runBart } from "./bart_stack.ts";
import { ConfigReader } from "./config.ts";
import { crossKeys } from "./cross_attention.ts";
import { defineFamily, type Family, type Pass } from "./family.ts";
import type { LayerNorm } from "./layers.ts";

interface WhisperConfig extends BartConfig {
  features: NonNullable<BartConfig["features"]>;
}

interface WhisperWeights {
  tied?: Linear; // D -> V
  tokens: Embedding; // V x D
  scale: Tensor; // [1]
  positions: Embedding; // target positions x D
  layers: BartLayer[];
  norm: LayerNorm;
  encoder: { conv1: Linear; conv2: Linear; positions: Tensor; layers: BartLayer[]; norm: LayerNorm };
}

const K = 3; // places that either convolution sees

/** The Whisper family. */
export const whisper: Family = defineFamily<WhisperConfig, WhisperWeights>({
  modelTypes: ["whisper"],
  prefix: "model.",
  ignore: [/^proj_out\.weight$/],
  config(json) {
    const read = new ConfigReader("whisper", json, {}, ["is_encoder_decoder"]);
    const states = read.count("max_source_positions", 1500);
    return {
      ...bartConfig(read, "max_target_positions"),
      features: { channels: read.count("num_mel_bins", 80), frames: 2 * states, states },
      normBefore: true,
      keyBias: false,
    };
  },
  async weights(source, c) {
    const D = c.hiddenSize, { channels, states } = c.features, conv = { bias: true, window: K };
    const at = "model.decoder.embed_tokens";
    const tied = c.tieWordEmbeddings ? await source.linear(at, D, c.vocabSize) : undefined;
    return {
      tied,
      tokens: tied ? tiedEmbedding(tied) : await source.embedding(at, c.vocabSize, D),
      scale: await source.constant("embedding scale", Float32Array.of(c.embeddingScale)),
      positions: await source.embedding("model.decoder.embed_positions", c.maxPositionEmbeddings, D),
      layers: await bartLayers(source, c, "decoder"),
      norm: await bartNorm(source, "model.decoder.layer_norm", c),
      encoder: {
        conv1: await source.linear("model.encoder.conv1", channels * K, D, conv),
        conv2: await source.linear("model.encoder.conv2", D * K, D, conv),
        positions: await source.vector("model.encoder.embed_positions.weight", [states, D]),
        layers: await bartLayers(source, c, "encoder"),
        norm: await bartNorm(source, "model.encoder.layer_norm", c),
      },
    };
  },
  encoder: {
    forward: encode,
    keys: (c, w, states, i) => crossKeys(w.layers[i]!.cross!, states, c),
  },
  forward(c, w, pass) {
    const { batch, cache, hiddenStates } = pass;
    using embedded = w.tokens.forward(batch.tokens); // [T, D]
    using tokens = mul(embedded, w.scale); // [T, D]
    using places = w.positions.forward(batch.positions); // [T, D]
    using x = runBart(c, w.layers, add(tokens, places), pass); // [T, D]
    cache.advance(batch);
    const y = w.norm(x); // [T, D]
    hiddenStates?.push(y);
    return y;
  },
  heads: {
    WhisperForConditionalGeneration: {
      task: "seq2seq-lm",
      perToken: true,
      async load(source, c, w) {
        const output = w.tied ?? await source.linear("proj_out", c.hiddenSize, c.vocabSize);
        return (hidden) => output.forward(hidden); // [T, V]
      },
    },
  },
});

/** States [B·S, D] of features [B, channels, frames]. */
function encode(c: WhisperConfig, { encoder }: WhisperWeights, pass: Pass): Tensor {
  const { batch, features } = pass, D = c.hiddenSize, { states } = c.features;
  if (!features) throw new ShapeError("Cannot run Whisper's encoder as it must have inputFeatures: none came");
  const gelu = { activation: "gelu" } as const;
  using windows = unfold(features, { kernelSize: K, padding: 1 }); // [B, frames, channels·K]
  using sound = encoder.conv1.forward(windows, gelu); // [B, frames, D]
  using halved = unfold(sound, { kernelSize: K, stride: 2, padding: 1, channelsLast: true }); // [B, S, D·K]
  using shorter = encoder.conv2.forward(halved, gelu).reshape([batch.size, states, D]);
  const x = add(shorter, encoder.positions).reshape([batch.total, D]);
  using last = runBart(c, encoder.layers, x, pass); // [B·S, D]
  const y = encoder.norm(last); // [B·S, D]
  pass.hiddenStates?.push(y);
  return y;
}
