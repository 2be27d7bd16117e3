/** A checkpoint in memory, as schemes read it, and what tests of schemes share. */
import type { Device } from "../../src/gpu/mod.ts";
import type { QuantizedLinear } from "../../src/quantization/quantized_linear.ts";
import type { Lookup, Scheme, TensorReader } from "../../src/quantization/scheme.ts";
import { decode, type Dtype, keep, type Tensor, tensor, tidy } from "../../src/tensor/mod.ts";

/** A tensor of a checkpoint. */
export interface StoredData {
  dtype: "F32" | "F16" | "BF16" | "I32" | "I8" | "U8";
  shape: readonly number[];
  data: ArrayBufferView<ArrayBuffer>;
}

const DTYPES: Readonly<Record<string, Dtype>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/** Reads `tensors`; float matrices come in pieces of `step` rows, or the next multiple that a scheme asks for. */
export function memoryReader(device: Device, tensors: Record<string, StoredData>, step = 3): [TensorReader, Lookup] {
  const bytes = (name: string) => {
    const { buffer, byteOffset, byteLength } = tensors[name]!.data;
    return new Uint8Array(buffer.slice(byteOffset, byteOffset + byteLength));
  };
  const reader: TensorReader = {
    device,
    has: (name) => name in tensors,
    numbers: (name) => Promise.resolve(Float32Array.from(decode(bytes(name).buffer, DTYPES[tensors[name]!.dtype]!))),
    bytes: (name, range) => Promise.resolve(bytes(name).slice(range?.start, range?.end)),
    words(name, range) {
      const some = bytes(name).slice(range?.start, range?.end), padded = new Uint8Array(Math.ceil(some.length / 4) * 4);
      padded.set(some);
      const words = new Uint32Array(padded.buffer);
      return Promise.resolve(keep(device, tensor(device, words, [words.length], "uint32")));
    },
    pieces(name, pack, { multiple = 1, rows: range } = {}) {
      const { dtype, shape: [N = 0, cols = 0] } = tensors[name]!, all = bytes(name), line = all.length / N;
      const n = Math.ceil(step / multiple) * multiple, { first, count } = range ?? { first: 0, count: N };
      for (let row = 0; row < count; row += n) {
        const part = all.slice((first + row) * line, (first + Math.min(count, row + n)) * line);
        const data = dtype === "F32" ? new Float32Array(part.buffer) : new Uint16Array(part.buffer);
        tidy(device, () => pack(tensor(device, data, [part.length / line, cols], DTYPES[dtype]!), row));
      }
      return Promise.resolve();
    },
  };
  const lookup: Lookup = (name) => {
    const t = tensors[name];
    return t && { dtype: t.dtype, shape: t.shape, byteLength: t.data.byteLength };
  };
  return [reader, lookup];
}

/** Loads the layer of the parts `names`, whose weights are [outputs, inputs] each, by `scheme`. */
export async function loadLayer(
  device: Device,
  scheme: Scheme,
  tensors: Record<string, StoredData>,
  { names = ["m"], inputs, outputs, bias = false, conv1d = false, step }: {
    names?: string[];
    inputs: number;
    outputs: number[];
    bias?: boolean;
    conv1d?: boolean;
    step?: number;
  },
): Promise<QuantizedLinear> {
  const [reader, lookup] = memoryReader(device, tensors, step);
  return await scheme.load(reader, { names, inputs, outputs, bias, conv1d }, lookup) as QuantizedLinear;
}

/** All weights of a layer as numbers, [out, in], as the GPU unpacks them. */
export async function weightsOf(linear: QuantizedLinear, device: Device): Promise<Float32Array> {
  using all: Tensor = tensor(device, Uint32Array.from({ length: linear.outFeatures }, (_, n) => n), [
    linear.outFeatures,
  ], "uint32");
  using y = linear.embed(all);
  return await y.read() as Float32Array;
}

/** `x · weightsᵀ + bias` in float64. */
export function productOf(x: Float32Array, weights: Float32Array, K: number, bias?: Float32Array): Float64Array {
  const M = x.length / K, N = weights.length / K;
  return Float64Array.from({ length: M * N }, (_, i) => {
    const m = Math.floor(i / N), n = i % N;
    let sum = bias?.[n] ?? 0;
    for (let k = 0; k < K; k++) sum += x[m * K + k]! * weights[n * K + k]!;
    return sum;
  });
}
