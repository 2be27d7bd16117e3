/**
 * How far weights that are quantized while they are loaded are from what they were, by a sample of each layer.
 *
 * @module
 */
import type { Tensor } from "../tensor/mod.ts";
import type { BitsAndBytesConfig } from "./bitsandbytes_config.ts";
import { savedByBitsandbytes } from "./bnb_save.ts";
import type { LayerShape, Scheme } from "./scheme.ts";

const SAMPLE = 16384; // numbers of each part, in whole rows: the error is then right to about 1 %

/**
 * The scheme, whose layers know their `relativeError` once the loader's reads are done: the first rows of each part are
 * read back and quantized once more by the plain form, which has the kernels' bits.
 */
export function measured(scheme: Scheme, config: BitsAndBytesConfig): Scheme {
  return {
    ...scheme,
    async load(reader, layer, lookup) {
      const rows: Promise<Float32Array>[] = [];
      const sample = (piece: Tensor) => {
        using part = piece.rows(0, Math.min(piece.shape[0]!, Math.ceil(SAMPLE / layer.inputs)));
        rows.push(part.read().then((numbers) => Float32Array.from(numbers)));
      };
      const linear = await scheme.load({ ...reader, sample }, layer, lookup);
      const told = Promise.all(rows).then((all) => void (linear.relativeError = errorOf(all, layer, config)));
      reader.later?.(told.catch(() => {})); // an error of the GPU is the loader's to tell
      return linear;
    },
  };
}

/** Root of the mean squared change of some rows of each part, over that of their numbers. */
function errorOf(parts: readonly Float32Array[], { names, inputs }: LayerShape, config: BitsAndBytesConfig): number {
  let error = 0, size = 0;
  for (const [i, x] of parts.entries()) {
    const shape = [x.length / inputs, inputs] as const;
    const { numbers } = savedByBitsandbytes(`${names[i] ?? names[0]}.weight`, x, shape, config, "float32");
    for (let j = 0; j < x.length; j++) {
      error += (numbers[j]! - x[j]!) ** 2;
      size += x[j]! ** 2;
    }
  }
  return size === 0 ? 0 : Math.sqrt(error / size);
}
