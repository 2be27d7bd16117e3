/**
 * Layers whose codes would not fit a binding of the GPU: their outputs are split over several matrices.
 *
 * @module
 */
import type { Shard } from "./bytes.ts";
import { QuantizedLinear } from "./quantized_linear.ts";
import { type LayerShape, type Lookup, outFeatures, type Scheme } from "./scheme.ts";

/** The scheme, whose layers are split where one would have a buffer that no binding takes. */
export function split(scheme: Scheme): Scheme {
  return {
    ...scheme,
    bytes(layer, lookup, limit = Infinity) {
      const all = slicesOf(scheme, layer, lookup, limit).map((slice) => scheme.bytes(slice, lookup));
      return {
        byteLength: all.reduce((sum, { byteLength }) => sum + byteLength, 0),
        bufferBytes: Math.max(...all.map(({ bufferBytes }) => bufferBytes)),
        loadingBytes: Math.max(...all.map(({ loadingBytes }) => loadingBytes)),
      };
    },
    async load(reader, layer, lookup) {
      const slices = slicesOf(scheme, layer, lookup, reader.device.limits.maxStorageBufferBindingSize);
      using made = new DisposableStack();
      const loaded: QuantizedLinear[] = [];
      for (const slice of slices) loaded.push(made.use(await scheme.load(reader, slice, lookup)));
      made.move(); // nothing failed: they are the layer's
      return loaded.length === 1 ? loaded[0]! : QuantizedLinear.join(loaded);
    },
  };
}

/** The layer itself, or slices of its parts. */
function slicesOf(scheme: Scheme, layer: LayerShape, lookup: Lookup, limit: number): LayerShape[] {
  if (bindingBytes(scheme, layer, lookup) <= limit) return [layer];
  const { names, outputs } = layer, width = outFeatures(layer);
  let column = 0;
  return names.flatMap((name, i) => {
    const of = outputs[i]!;
    const slice = ({ first, count }: Shard): LayerShape => ({
      ...layer,
      names: [name],
      outputs: [count],
      slice: { first, count, of, column: column + first, width },
    });
    const unit = scheme.sliceUnit?.(slice({ first: 0, count: of }), lookup) ?? 4;
    const fits = (count: number) => bindingBytes(scheme, slice({ first: 0, count }), lookup) <= limit;
    const count = fits(of) ? of : unit * Math.max(1, largest(Math.floor(of / unit), (n) => fits(n * unit)));
    const firsts = Array.from({ length: Math.ceil(of / count) }, (_, j) => j * count);
    const slices = firsts.map((first) => slice({ first, count: Math.min(count, of - first) }));
    column += of;
    return slices;
  });
}

/** Bytes of the largest buffer that is bound while a layer is loaded and after. */
function bindingBytes(scheme: Scheme, layer: LayerShape, lookup: Lookup): number {
  const { bufferBytes, loadingBytes } = scheme.bytes(layer, lookup);
  return Math.max(bufferBytes, loadingBytes);
}

/** The largest of 0 to `most` that `holds`, where all below it do. */
function largest(most: number, holds: (n: number) => boolean): number {
  let low = 0;
  while (low < most) {
    const middle = Math.ceil((low + most) / 2);
    if (holds(middle)) low = middle;
    else most = middle - 1;
  }
  return low;
}
