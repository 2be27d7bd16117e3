/**
 * What a logits processor is: a pure function from scores and history to scores, in plain loops and as a kernel.
 *
 * @module
 */
import type { Device } from "../../gpu/mod.ts";
import type { Tensor } from "../../tensor/mod.ts";
import type { ResolvedOptions } from "../options.ts";

/** Stands for -infinity on the GPU; scores at or below it are never chosen. */
export const NEG: number = Math.fround(-1e30);

/** What processors know of a run before it starts. */
export interface ProcessorContext {
  readonly vocabSize: number;
  /** Ids of the prompts, without padding. */
  readonly prompts: readonly (readonly number[])[];
  /** Ids of the encoder's input, one row a prompt; without an encoder, the prompts. */
  readonly encoderIds?: readonly (readonly number[])[];
}

/** What some processors know of a step beside the ids. */
export interface StepState {
  /** Group beams: the tokens that the groups before this one chose in this step, [batch · numBeams]. */
  currentTokens?: readonly number[];
  /** Group beams: which group this is. */
  groupIndex?: number;
  /** Guidance: logits after the negative prompt, [R · V]. */
  unconditional?: Float32Array;
}

/** Changes the scores [R · V] of R rows in place, given their ids so far; R is a multiple of the number of prompts. */
export type HostProcessor = (ids: readonly (readonly number[])[], scores: Float32Array, step?: StepState) => void;

/** What a processor finds on the GPU. All of it changes from step to step without the host. */
export interface GpuState {
  readonly device: Device;
  /** [1] uint32: steps so far. */
  readonly step: Tensor;
  /** [B, V] uint32: how often each token was there, but for the first `skip` of each prompt. */
  counts(skip: number): Tensor;
  /** The ids so far, [B, N] uint32, and how many of each row, [B] uint32. */
  history(): { ids: Tensor; lengths: Tensor };
  /** [B, V] float32: logits after the negative prompt in this step. */
  unconditional(): Tensor;
  /** Keeps data on the device until the run ends. */
  put(data: readonly number[], dtype?: "uint32" | "float32", shape?: readonly number[]): Tensor;
}

/** A processor. */
export interface Processor {
  /** The option that it comes from. */
  readonly name: string;
  /** The plain form. */
  readonly host: HostProcessor;
  /** The GPU form: records a launch or two, and may be replayed. One that has none makes each step wait for the host. */
  readonly gpu?: ((state: GpuState) => (scores: Tensor) => Tensor) | undefined;
}

/** Builds a processor where the options ask for it. */
export type ProcessorOf = (o: ResolvedOptions, c: ProcessorContext) => Processor | undefined;

/** Where a row stands. */
export interface RowState {
  /** Its ids so far. */
  readonly ids: readonly number[];
  /** Which prompt it belongs to. */
  readonly prompt: number;
  /** How many tokens came after the prompt. */
  readonly step: number;
}

/** A host processor that looks at one row [V] at a time. */
export function perRow(c: ProcessorContext, change: (scores: Float32Array, row: RowState) => void): HostProcessor {
  return (ids, scores) => {
    const each = ids.length / c.prompts.length;
    for (const [r, row] of ids.entries()) {
      const prompt = Math.floor(r / each), step = row.length - c.prompts[prompt]!.length;
      change(scores.subarray(r * c.vocabSize, (r + 1) * c.vocabSize), { ids: row, prompt, step });
    }
  };
}

/** Length of the longest prompt: what lengths in options are counted from, for all rows. */
export function longestOf({ prompts }: ProcessorContext): number {
  return Math.max(...prompts.map((row) => row.length));
}

/** The encoder's ids of each prompt. */
export function encoderIdsOf(c: ProcessorContext): readonly (readonly number[])[] {
  return c.encoderIds ?? c.prompts;
}
