/**
 * How far a long piece of work has come: one shape for downloads, loading and compilation.
 *
 * @module
 */

/**
 * One report of progress, as `onProgress` callbacks receive it.
 *
 * @example
 * ```ts
 * const bar = (p: Progress) => `${p.phase} ${p.label} ${Math.floor((100 * p.loaded) / p.total)} %`;
 * bar({ phase: "download", label: "model.safetensors", loaded: 50, total: 200 }); // "download model.safetensors 25 %"
 * ```
 */
export type Progress = {
  /** What is going on. */
  phase: "download" | "load" | "compile";
  /** What it is about: a file, a model, a shader. */
  label: string;
  /** How much is done: bytes of a download or load, pipelines of a compilation. */
  loaded: number;
  /** How much there is, in the unit of `loaded`. */
  total: number;
};
