/**
 * Generation: the pipe from logits to tokens.
 *
 * @module
 */
export * from "./generate.ts";
export type { GenerationConfigFields, SequenceBias } from "./config_fields.ts";
export type {
  CallOptions,
  GenerationOptions,
  LogitsProcessor,
  PrefixAllowedTokens,
  StoppingCriterion,
  Streamer,
  TextCodec,
} from "./options.ts";
export { setSeed } from "./seed.ts";
export { WatermarkingConfig, type WatermarkingSettings } from "./watermarking_config.ts";
