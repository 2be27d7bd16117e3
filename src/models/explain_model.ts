/**
 * What a model will run, and why: the attention kernel of each layer, the scheme of each matrix.
 *
 * @module
 */
import { RuntimeError } from "../errors.ts";
import { type Device, formatBytes } from "../gpu/mod.ts";
import { type AttentionBackend, chooseAttention, subgroupSize } from "../ops/attention.ts";
import { enabledBackends } from "../ops/sdpa_kernel.ts";
import type { Linear } from "../quantization/mod.ts";
import type { WeightDtype } from "../weights/source.ts";
import { type AttnImplementation, cacheDtypeOf } from "./attention_implementation.ts";
import type { FamilyConfig } from "./family.ts";

/** What attends in one kind of pass. */
export interface AttentionReport {
  /** "flash", "efficient" or "math"; "none" where nothing can. */
  kernel: AttentionBackend | "none";
  /** Why. */
  why: string;
}

/** One layer. */
export interface LayerReport {
  /** Its number. */
  layer: number;
  /** Over a prompt, or a text of an encoder. */
  prompt: AttentionReport;
  /** Over one more token; undefined where the model does not generate. */
  step?: AttentionReport;
  /** Keys that a token sees; undefined for all. */
  window?: number;
  /** Its matrices, where known. */
  linears: LinearReport[];
}

/** One matrix of a layer. */
export interface LinearReport {
  /** Its name in the weight tree. */
  name: string;
  /** How it is packed: "float16", "nf4", … */
  scheme: string;
  /** Length of an input row. */
  inFeatures: number;
  /** Length of an output row. */
  outFeatures: number;
  /** Bytes on the GPU, bias included. */
  byteLength: number;
  /**
   * Root mean square of what quantizing changed its weights by, over that of the weights, by a sample of them; undefined
   * where they were not quantized while they were loaded.
   */
  relativeError?: number;
}

/** What `model.explain()` gives; as a string it is a short table. */
export interface ModelReport {
  /** How the model attends. */
  attnImplementation: AttnImplementation;
  /** What its matrices are kept as. */
  dtype: WeightDtype;
  /** Its layers. */
  layers: LayerReport[];
  /** The report as text. */
  toString(): string;
}

/** What a report is made from; `weights` is the model's weight tree, where it is loaded. */
export interface ExplainSubject {
  /** Sizes and layers. */
  sizes: FamilyConfig;
  /** What matrices are kept as. */
  dtype: WeightDtype;
  /** How it attends. */
  attnImplementation: AttnImplementation;
  /** The weight tree. */
  weights?: unknown;
}

const PROMPT = 512; // tokens of the prompt that is described

/** Describes a model on `device`. */
export function explainModel(subject: ExplainSubject, device: Device): ModelReport {
  const { sizes, dtype, attnImplementation, weights } = subject;
  const layers = sizes.attention.map(({ causal, window }, layer): LayerReport => ({
    layer,
    window,
    prompt: choose(subject, device, Math.min(PROMPT, sizes.maxPositionEmbeddings), causal),
    step: causal ? choose(subject, device, 1, causal) : undefined,
    linears: linearsOf(weights, layer),
  }));
  return { attnImplementation, dtype, layers, toString: toText };
}

/** The kernel for `tokens` tokens of one sequence, by the same function that chooses when it runs. */
function choose(subject: ExplainSubject, device: Device, tokens: number, causal: boolean): AttentionReport {
  if (subject.sizes.states) return { kernel: "none", why: "a convolution and a scan of states" };
  const { sizes: { heads, kvHeads, headDim, maxPositionEmbeddings }, attnImplementation } = subject;
  const enabled = attnImplementation === "sdpa"
    ? enabledBackends()
    : [attnImplementation === "eager" ? "math" as const : "flash" as const];
  const rounded = causal || enabled.every((name) => name === "flash"); // an encoder keeps its keys as they come
  const keys = Math.min(maxPositionEmbeddings, Math.max(tokens, PROMPT));
  const sizes = { headDim, heads, kvHeads, tokens, sequences: 1, keys };
  try {
    const { kernel, why } = chooseAttention({
      ...sizes,
      dtype: rounded ? cacheDtypeOf(subject.dtype, headDim) : "float32",
      subgroup: subgroupSize(device),
      cpu: device.isCpu,
      enabled,
    });
    return { kernel, why };
  } catch (error) {
    if (!(error instanceof RuntimeError)) throw error;
    return { kernel: "none", why: error.message };
  }
}

/** What in the weights of a layer multiplies: whatever says how it is packed, and how wide it is. */
function linearsOf(weights: unknown, layer: number): LinearReport[] {
  const { layers } = Object(weights) as { layers?: unknown[] };
  return Object.entries(Object(layers?.[layer])).flatMap(([name, weight]) => {
    const { scheme, inFeatures, outFeatures, byteLength, relativeError } = Object(weight) as Linear;
    if (typeof scheme !== "string" || typeof inFeatures !== "number" || typeof outFeatures !== "number") return [];
    return [{ name, scheme, inFeatures, outFeatures, byteLength, ...relativeError !== undefined && { relativeError } }];
  });
}

/** Layers that say the same stand in one line. */
function toText(this: ModelReport): string {
  const lines = this.layers.map(({ layer, prompt, step, window, linears }) => {
    const attends = (what: string, r: AttentionReport) =>
      `    ${what}  ${r.kernel} (${r.why.replaceAll(/\n\s*/g, " ")})`;
    return {
      layer,
      text: [
        ...window ? [`    window  the last ${window} tokens`] : [],
        attends(step ? "prompt" : "text  ", prompt),
        ...step ? [attends("token ", step)] : [],
      ].join("\n"),
      matrices: linears.map((l) =>
        `    linear  ${l.name} ${l.inFeatures} → ${l.outFeatures}, ${l.scheme}, ${formatBytes(l.byteLength)}`
      ),
      errors: linears.map(({ relativeError }) => relativeError),
    };
  });
  const alike = Map.groupBy(lines, ({ text, matrices }) => [text, ...matrices].join("\n"));
  const blocks = [...alike.values()].map((of) => {
    const [{ text, matrices }] = of as [typeof of[number]];
    const errors = matrices.map((line, i) => line + errorText(of.map((one) => one.errors[i])));
    return [`  layers ${ranges(of.map(({ layer }) => layer))}`, text, ...errors].join("\n");
  });
  return [`attention: ${this.attnImplementation}; matrices kept as ${this.dtype}`, ...blocks].join("\n");
}

/** ", RMS error 7.1–7.3 %", where it is known. */
function errorText(errors: readonly (number | undefined)[]): string {
  const known = errors.filter((e) => e !== undefined).map((e) => (100 * e).toPrecision(2));
  const [least, most] = [Math.min(...known.map(Number)), Math.max(...known.map(Number))];
  if (known.length === 0) return "";
  return `, RMS error ${least === most ? least : `${least}–${most}`} %`;
}

/** "0–3, 5" */
function ranges(numbers: readonly number[]): string {
  const runs: [from: number, to: number][] = [];
  for (const n of numbers) {
    const last = runs.at(-1);
    if (last && last[1] === n - 1) last[1] = n;
    else runs.push([n, n]);
  }
  return runs.map(([from, to]) => from === to ? `${from}` : `${from}–${to}`).join(", ");
}
