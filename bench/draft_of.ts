/**
 * A draft made from a Llama: its first layers with its embedding and its last norm, where what a layer adds to the residual
 * stream may be halved again and again.
 *
 * A model of random weights mostly says its last token once more, for the residual stream keeps what came in. A draft whose
 * layers add next to nothing always does, since its tied head finds the embedding that came in: the two agree by
 * construction, and the target is the model as it is.
 */
import { openCheckpoint } from "../src/weights/checkpoint.ts";
import { readJson } from "../src/weights/files.ts";
import { type TensorToSave, writeSafetensors } from "../src/weights/save.ts";

/** Which layers, and how loud they are. */
export interface DraftOfOptions {
  /** How many of the first layers. */
  layers: number;
  /** How often what they add is halved. */
  halvings: number;
}

const ADDS = /\.(o_proj|down_proj)\.weight$/; // what these make is added to the residual stream
const CHUNK = 2 ** 22; // bytes

/** Writes the draft made from the float32 checkpoint in `target` into `folder`. */
export async function writeDraftOf(
  target: string,
  folder: string,
  { layers, halvings }: DraftOfOptions,
): Promise<void> {
  const config = await readJson(target, "config.json");
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify({ ...config, num_hidden_layers: layers }));
  using checkpoint = await openCheckpoint(target);
  const tensors: TensorToSave[] = [];
  for (const [name, { dtype, shape }] of checkpoint.tensors) {
    if (Number(/\.layers\.(\d+)\./.exec(name)?.[1] ?? 0) >= layers) continue;
    if (dtype !== "F32") throw new Error(`${name} must be float32: it is ${dtype}`);
    const chunks = checkpoint.chunks(name, { maxBytes: CHUNK });
    tensors.push({ name, dtype, shape, data: ADDS.test(name) ? scaled(chunks, 0.5 ** halvings) : chunks });
  }
  await writeSafetensors(`${folder}/model.safetensors`, tensors);
}

async function* scaled(chunks: AsyncIterable<Uint8Array>, factor: number): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    const values = new Float32Array(chunk.slice().buffer);
    yield new Uint8Array(values.map((x) => x * factor).buffer);
  }
}
