/**
 * Where a GGUF file lies: a path that ends in ".gguf", or a file of a folder or of a repository on the hub.
 *
 * @module
 */
import { openInside } from "./files.ts";
import { type OpenGguf, openGguf } from "./gguf_checkpoint.ts";
import { resolveModel, type ResolveOptions } from "./hub.ts";

/** Which file of a model to load. */
export interface GgufOption {
  /** A GGUF file of the folder or the repository, as "model-q4_k.gguf". Default: safetensors. */
  ggufFile?: string;
}

/** An open GGUF file and the folder that holds it. */
export interface FoundGguf {
  /** The folder. */
  readonly dir: string;
  /** The file. */
  readonly gguf: OpenGguf;
}

/** Opens the GGUF file that is meant; undefined where none is. */
export async function findGguf(
  pathOrHubId: string,
  { ggufFile, ...options }: GgufOption & ResolveOptions,
): Promise<FoundGguf | undefined> {
  if (ggufFile !== undefined) {
    const { dir } = await resolveModel(pathOrHubId, { ...options, allow: (file) => file === ggufFile });
    return { dir, gguf: await openGguf(await openInside(dir, ggufFile)) };
  }
  const path = /^(?:(.*)[\\/])?([^\\/]+\.gguf)$/i.exec(pathOrHubId);
  if (!path) return undefined;
  const { dir } = await resolveModel(path[1] === undefined ? "." : path[1] || "/", options);
  return { dir, gguf: await openGguf(await openInside(dir, path[2]!)) };
}
