/**
 * Generation: the pipe from logits to tokens.
 *
 * @module
 */
export * from "./generate.ts";
export type { GenerationOptions, LogitsProcessor, StoppingCriterion, TextCodec } from "./options.ts";
