/**
 * Progress of long work, as every loader and compiler of this library reports it.
 *
 * @module
 */

/** One report. */
export interface Progress {
  /** What kind of work it is. */
  phase: "download" | "load" | "compile" | "score" | "save";
  /** What is being worked on: a file, a tensor, a kernel. */
  label: string;
  /** How much is done: bytes, or a count of kernels or tokens. */
  loaded: number;
  /** How much there is in all; 0 where unknown. */
  total: number;
}
