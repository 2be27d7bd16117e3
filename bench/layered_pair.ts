/**
 * A target and a draft that agree by construction: the draft is the target's first layers, and what the target's later
 * layers write into the residual stream is scaled down, so that the two rarely choose differently while the target costs
 * what it did. Made from any Llama checkpoint of one safetensors file in float32.
 */
const LATER = /model\.layers\.(\d+)\.(?:self_attn\.o_proj|mlp\.down_proj)\.weight/;
const LAYER = /model\.layers\.(\d+)\./;

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** The folders of the pair. */
export interface LayeredPair {
  target: string;
  draft: string;
}

/**
 * Writes the pair below `folder`.
 *
 * @param layers of the draft
 * @param scale of what the target's later layers add; 0 makes the two equal
 */
export async function makeLayeredPair(
  model: string,
  folder: string,
  layers: number,
  scale: number,
): Promise<LayeredPair> {
  const target = `${folder}/target`, draft = `${folder}/draft`;
  const bytes = await Deno.readFile(`${model}/model.safetensors`);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const { __metadata__, ...header }: Record<string, Entry> = JSON.parse(
    new TextDecoder().decode(bytes.subarray(8, 8 + length)),
  );
  const tensors = new Map<string, [Entry, Uint8Array<ArrayBuffer>]>();
  for (const [name, entry] of Object.entries(header)) {
    const [from, to] = entry.data_offsets, data = bytes.slice(8 + length + from, 8 + length + to);
    const layer = LATER.exec(name)?.[1];
    if (layer !== undefined && Number(layer) >= layers) {
      if (entry.dtype !== "F32") throw new Error(`Cannot scale ${name} as it must be F32: it is ${entry.dtype}`);
      const values = new Float32Array(data.buffer);
      for (let i = 0; i < values.length; i++) values[i]! *= scale;
    }
    tensors.set(name, [entry, data]);
  }
  const config = JSON.parse(await Deno.readTextFile(`${model}/config.json`));
  await write(target, config, tensors);
  const first = [...tensors].filter(([name]) => Number(LAYER.exec(name)?.[1] ?? 0) < layers);
  await write(draft, { ...config, num_hidden_layers: layers, layer_types: undefined }, new Map(first));
  return { target, draft };
}

async function write(folder: string, config: object, tensors: Map<string, [Entry, Uint8Array<ArrayBuffer>]>) {
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  let at = 0;
  const header = Object.fromEntries([...tensors].map(([name, [entry, data]]) => {
    return [name, { ...entry, data_offsets: [at, at += data.length] }];
  }));
  const text = new TextEncoder().encode(JSON.stringify(header)), size = new Uint8Array(8);
  const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(32);
  padded.set(text);
  new DataView(size.buffer).setBigUint64(0, BigInt(padded.length), true);
  using file = await Deno.open(`${folder}/model.safetensors`, { write: true, create: true, truncate: true });
  for (const part of [size, padded, ...tensors.values().map(([, data]) => data)]) {
    for (let rest: Uint8Array = part; rest.length > 0;) rest = rest.subarray(file.writeSync(rest));
  }
}
