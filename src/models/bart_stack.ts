/**
 * The layers of BART and of those that followed it: attention to itself, to the encoder, an MLP, each with its layer norm
 * before it or behind it.
 *
 * @module
 */
import type { Activation } from "../ops/matmul.ts";
import type { Linear } from "../quantization/mod.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { WeightSource } from "../weights/source.ts";
import type { ConfigReader } from "./config.ts";
import { crossAttention } from "./cross_attention.ts";
import { type FamilyConfig, layer, loadLayers, type Pass } from "./family.ts";
import { type LayerNorm, loadLayerNorm } from "./layers.ts";
import { selfAttention } from "./self_attention.ts";

/** Sizes of one stack. */
export interface StackConfig {
  /** Its layers. */
  layers: number;
  /** Heads of each. */
  heads: number;
  /** Width of the MLPs. */
  inner: number;
}

/** What these families' configs share. */
export interface BartConfig extends FamilyConfig {
  /** The stack that reads. */
  encoderStack: StackConfig;
  /** The stack that writes. */
  decoderStack: StackConfig;
  /** Of the MLPs. */
  activation: Activation;
  /** Norms stand before each block, not behind its residual. */
  normBefore: boolean;
  /** Key projections have biases. */
  keyBias: boolean;
  /** Factor of the embeddings. */
  embeddingScale: number;
  /** The output layer is the embedding's matrix. */
  tieWordEmbeddings: boolean;
}

/** Weights of a layer. */
export interface BartLayer {
  qkv: Linear; // D -> 3 D
  out: Linear; // D -> D
  norm: LayerNorm;
  cross?: { q: Linear; k: Linear; v: Linear; out: Linear; norm: LayerNorm };
  up: Linear; // D -> I
  down: Linear; // I -> D
  mlpNorm: LayerNorm;
}

const EPS = 1e-5; // torch's default, which no config changes

const ACTIVATIONS = {
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  relu: "relu",
  silu: "silu",
  swish: "silu",
  tanh: "tanh",
} as const;

/** Reads the keys that these families share. */
export function bartConfig(read: ConfigReader, positions: string): Omit<BartConfig, "normBefore" | "keyBias"> {
  const shape = read.heads("d_model", "decoder_attention_heads");
  read.heads("d_model", "encoder_attention_heads");
  const stack = (at: string): StackConfig => ({
    layers: read.layers(`${at}_layers`),
    heads: read.count(`${at}_attention_heads`),
    inner: read.count(`${at}_ffn_dim`),
  });
  const decoderStack = stack("decoder"), options = { scale: shape.headDim ** -0.5, causal: true };
  return {
    ...shape,
    vocabSize: read.count("vocab_size"),
    maxPositionEmbeddings: read.count(positions, 1024),
    encoderStack: stack("encoder"),
    decoderStack,
    activation: read.oneOf("activation_function", ACTIVATIONS, "gelu"),
    embeddingScale: read.flag("scale_embedding", false) ? Math.sqrt(shape.hiddenSize) : 1,
    tieWordEmbeddings: read.flag("tie_word_embeddings", true),
    attention: Array.from({ length: decoderStack.layers }, () => options),
  };
}

/** Loads the layers of "model.encoder" or "model.decoder". */
export function bartLayers(source: WeightSource, c: BartConfig, at: "encoder" | "decoder"): Promise<BartLayer[]> {
  const D = c.hiddenSize, { layers, inner } = at === "encoder" ? c.encoderStack : c.decoderStack;
  const biased = { bias: true }, keys = { bias: c.keyBias }, three = { bias: c.keyBias || [true, false, true] };
  return loadLayers(layers, async (i) => {
    const block = `model.${at}.layers.${i}`, self = `${block}.self_attn`, other = `${block}.encoder_attn`;
    return {
      qkv: await source.linear([`${self}.q_proj`, `${self}.k_proj`, `${self}.v_proj`], D, [D, D, D], three),
      out: await source.linear(`${self}.out_proj`, D, D, biased),
      norm: await loadLayerNorm(source, `${self}_layer_norm`, D, EPS),
      cross: at === "encoder" ? undefined : {
        q: await source.linear(`${other}.q_proj`, D, D, biased),
        k: await source.linear(`${other}.k_proj`, D, D, keys),
        v: await source.linear(`${other}.v_proj`, D, D, biased),
        out: await source.linear(`${other}.out_proj`, D, D, biased),
        norm: await loadLayerNorm(source, `${other}_layer_norm`, D, EPS),
      },
      up: await source.linear(`${block}.fc1`, D, inner, biased),
      down: await source.linear(`${block}.fc2`, inner, D, biased),
      mlpNorm: await loadLayerNorm(source, `${block}.final_layer_norm`, D, EPS),
    };
  });
}

/** A norm of a stack. */
export function bartNorm(source: WeightSource, name: string, { hiddenSize }: BartConfig): Promise<LayerNorm> {
  return loadLayerNorm(source, name, hiddenSize, EPS);
}

/** Runs `layers` over `x` [T, D], which it takes. */
export function runBart(c: BartConfig, layers: readonly BartLayer[], x: Tensor, pass: Pass): Tensor {
  const decodes = layers[0]!.cross !== undefined, { heads } = decodes ? c.decoderStack : c.encoderStack;
  const headDim = c.hiddenSize / heads, scale = headDim ** -0.5;
  const before = (norm: LayerNorm, x: Tensor) => c.normBefore ? norm(x) : x;
  const behind = (norm: LayerNorm, x: Tensor) => c.normBefore ? x : norm(x);
  for (const [i, l] of layers.entries()) {
    x = layer(pass, x, (x) => {
      const projection = { qkv: l.qkv, heads, kvHeads: heads, headDim };
      const attention = { scale, causal: decodes, weights: pass.attentions };
      const o = selfAttention(pass, i, before(l.norm, x), projection, attention); // [T, D]
      let y = behind(l.norm, l.out.forward(o, { residual: x })); // [T, D]
      if (l.cross) {
        const { q, out, norm } = l.cross;
        const seen = crossAttention(pass, i, before(norm, y), { q, heads, headDim, scale }); // [T, D]
        y = behind(norm, out.forward(seen, { residual: y })); // [T, D]
      }
      const h = l.up.forward(before(l.mlpNorm, y), { activation: c.activation }); // [T, I]
      return behind(l.mlpNorm, l.down.forward(h, { residual: y })); // [T, D]
    });
  }
  return x;
}
