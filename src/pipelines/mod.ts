/**
 * Tasks: a model and a tokenizer in, what a person wants out.
 *
 * @module
 */
export * from "./embed.ts";
