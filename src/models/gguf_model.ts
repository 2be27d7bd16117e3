/**
 * A GGUF file as a model: its config, its tensors by the family's names, how they are packed.
 *
 * @module
 */
import { ModelFormatError } from "../errors.ts";
import { ggufQuantization } from "../quantization/gguf.ts";
import { blockFormat } from "../quantization/gguf_blocks.ts";
import type { Quantization } from "../quantization/scheme.ts";
import { GgufCheckpoint, type GgufName, type OpenGguf } from "../weights/gguf_checkpoint.ts";
import type { WeightSource } from "../weights/source.ts";
import type { ConfigJson } from "./config.ts";
import { ggufConfig } from "./gguf_config.ts";
import { ggufNames } from "./gguf_names.ts";

const MAX_LAYERS = 4096;
const FREQUENCIES = "rope_freqs.weight";

/** What a GGUF file gives beside what a folder would. */
export interface GgufModel {
  /** What config.json would say. */
  json: ConfigJson;
  /** The tensors. */
  checkpoint: GgufCheckpoint;
  /** How layers are packed; undefined where none is in blocks. */
  quantization: Quantization | undefined;
}

/**
 * Reads what `gguf` is; it is closed with the checkpoint.
 *
 * @param keep whether layers stay in blocks; otherwise everything is read as numbers
 */
export async function ggufModel(gguf: OpenGguf, keep: boolean): Promise<GgufModel> {
  const { header, file } = gguf;
  const json = ggufConfig(header, file.name, await frequenciesOf(gguf));
  const names = namesOf(json, gguf, keep);
  const checkpoint = new GgufCheckpoint(gguf, names);
  const bits = [...names.values()].flatMap(({ source, blocks }) => {
    const format = blocks ? blockFormat(header.tensors.get(source)?.type ?? "") : undefined;
    return format ? [format.bits] : [];
  });
  const most = bits.toSorted((a, b) => count(bits, b) - count(bits, a))[0];
  return { json, checkpoint, quantization: most === undefined ? undefined : ggufQuantization(most) };
}

/** A source whose matrices are [out, in] throughout, as GGUF files have them. */
export function rowsFirst(source: WeightSource): WeightSource {
  return {
    has: (name) => source.has(name),
    vector: (name, length, options) => source.vector(name, length, options),
    constant: (name, data) => source.constant(name, data),
    linear: (names, inputs, outputs, options) => source.linear(names, inputs, outputs, { ...options, conv1d: false }),
    embedding: (name, rows, width, options) => source.embedding(name, rows, width, options),
  };
}

/** By what the frequencies of rotary embeddings are divided, where the file says so. */
async function frequenciesOf({ header, file }: OpenGguf): Promise<Float32Array | undefined> {
  const tensor = header.tensors.get(FREQUENCIES);
  if (!tensor) return undefined;
  const bytes = await file.read(tensor.start, tensor.end - tensor.start);
  const factors = tensor.type === "F32" ? new Float32Array(bytes.slice().buffer) : [];
  if (factors.length > 0 && factors.every((f) => Number.isFinite(f) && f > 0)) return Float32Array.from(factors);
  throw new ModelFormatError(`Cannot load ${file.name} as ${FREQUENCIES} must be positive F32 numbers: it is not`);
}

function namesOf(json: ConfigJson, { header, file }: OpenGguf, keep: boolean): Map<string, GgufName> {
  const { model_type: modelType, tie_word_embeddings: tied } = json;
  const layers = json.num_hidden_layers ?? json.n_layer;
  if (!Number.isInteger(layers) || layers as number < 1 || layers as number > MAX_LAYERS) {
    throw new ModelFormatError(
      `Cannot load ${file.name} as block_count must be a whole number from 1 to ${MAX_LAYERS}: it is ${layers}`,
    );
  }
  const paired = modelType === "llama" || modelType === "mistral";
  const heads = { query: json.num_attention_heads, key: json.num_key_value_heads };
  const names = new Map<string, GgufName>(), known = new Set([FREQUENCIES]);
  for (const { name, source, rotary } of ggufNames(String(modelType), layers as number)) {
    const info = header.tensors.get(source);
    if (!info) continue;
    known.add(source);
    const table = /^(token|position)_embd\./.test(source) && !(tied && source.startsWith("token"));
    names.set(name, {
      source,
      blocks: keep && info.shape.length === 2 && !table,
      ...paired && rotary ? { heads: headsOf(heads[rotary], rotary, file.name) } : {},
    });
  }
  // what no family asks for is reported under its own name
  for (const source of header.tensors.keys()) if (!known.has(source)) names.set(source, { source });
  return names;
}

function headsOf(value: unknown, which: string, file: string): number {
  if (Number.isInteger(value) && value as number > 0 && value as number < 2 ** 20) return value as number;
  throw new ModelFormatError(
    `Cannot load ${file} as the number of its ${which} heads must be a whole number above 0: it is ${value}`,
  );
}

function count(list: readonly number[], value: number): number {
  return list.filter((v) => v === value).length;
}
