/**
 * How far quantized weights are from those that they were made from.
 *
 * @module
 */
import { type Device, openDevice } from "../gpu/mod.ts";
import type { LayerShape, Linear } from "../quantization/mod.ts";
import { quantizationOf } from "../quantization/method.ts";
import { type Checkpoint, openCheckpoint } from "../weights/checkpoint.ts";
import { WeightLoader } from "../weights/loader.ts";
import { lookupIn, resolveName } from "../weights/source.ts";
import { decode, type Dtype, tensor } from "../tensor/mod.ts";
import { type LoadOptions, planModel } from "./load_model.ts";
import { familyOf } from "./registry.ts";

/** The error of one layer. */
export interface QuantizationError {
  /** Its name or names in the checkpoint. */
  name: string;
  /** How it is packed. */
  scheme: string;
  /** Root of the mean squared difference, over that of the weights. */
  relativeRms: number;
}

const ROWS = 256; // unpacked at a time
const DTYPES: Readonly<Record<string, Dtype>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/**
 * The error that quantizing makes in each layer of a model of float weights; layers are quantized one after the other.
 *
 * @param pathOrHubId a folder with config.json and safetensors, or "owner/name"
 * @throws as `loadModel`
 *
 * @example
 * ```ts
 * import { BitsAndBytesConfig, quantizationErrors } from "@tensaur/tensaur";
 * const quantizationConfig = new BitsAndBytesConfig({ loadIn8bit: true });
 * const [first] = await quantizationErrors("models/tensaur-tiny", { quantizationConfig });
 * console.log(first!.relativeRms < 0.02); // true
 * ```
 */
export async function quantizationErrors(pathOrHubId: string, options: LoadOptions = {}): Promise<QuantizationError[]> {
  const { path, json, dtype, weights } = await planModel(pathOrHubId, options);
  const device = options.device ?? await openDevice();
  try {
    using checkpoint = await openCheckpoint(path);
    const { prefix } = familyOf(json), found: QuantizationError[] = [];
    const quantization = quantizationOf(json.quantization_config, options);
    for (const { name, scheme, layer } of weights) {
      const lookup = lookupIn(checkpoint, prefix);
      if (!layer || !layer.names.every((part) => DTYPES[lookup(`${part}.weight`)?.dtype ?? ""])) continue;
      using loader = new WeightLoader(device, checkpoint, { dtype, quantization, prefix, readBytes: 0 });
      const linear = await loader.linear(layer.names, layer.inputs, layer.outputs, layer);
      found.push({ name, scheme, relativeRms: await errorOf(device, linear, layer, { checkpoint, prefix }) });
    }
    return found;
  } finally {
    if (!options.device) device.close();
  }
}

async function errorOf(
  device: Device,
  linear: Linear,
  layer: LayerShape,
  { checkpoint, prefix }: { checkpoint: Checkpoint; prefix: string },
): Promise<number> {
  const { names, inputs: K, outputs, conv1d } = layer;
  let error = 0, size = 0, column = 0;
  for (const [i, rows] of outputs.entries()) {
    const name = resolveName(checkpoint, prefix, `${names[i]}.weight`), { dtype } = checkpoint.tensors.get(name)!;
    const original = decode((await checkpoint.read(name)).slice().buffer, DTYPES[dtype]!);
    for (let row = 0; row < rows; row += ROWS) {
      const unpacked = await rowsOf(device, linear, column + row, Math.min(ROWS, rows - row));
      for (let j = 0; j < unpacked.length; j++) {
        const n = row + Math.floor(j / K), want = original[conv1d ? j % K * rows + n : row * K + j]!;
        error += (unpacked[j]! - want) ** 2;
        size += want ** 2;
      }
    }
    column += rows;
  }
  return size === 0 ? 0 : Math.sqrt(error / size);
}

async function rowsOf(device: Device, linear: Linear, start: number, n: number): Promise<Float32Array> {
  using tokens = tensor(device, Uint32Array.from({ length: n }, (_, i) => start + i), [n], "uint32");
  using y = linear.embed(tokens);
  return await y.read() as Float32Array;
}
