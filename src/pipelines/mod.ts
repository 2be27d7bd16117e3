/**
 * Tasks: a model and a tokenizer in, what a person wants out.
 *
 * @module
 */
export * from "./embed.ts";
export {
  perplexity,
  type PerplexityOptions,
  type PerplexityResult,
  type PerplexityTokenizer,
  type PerplexityWindow,
} from "./perplexity.ts";
export * from "./quantize_model.ts";
