/** Options of reference cases, which are named as transformers names them. */
import type { GenerationOptions } from "../../../src/generation/mod.ts";

/** A case of the reference that is generated. */
export interface SearchCase {
  name: string;
  kind: string;
  inputs: { input_ids: number[][]; attention_mask?: number[][] };
  generation: Record<string, unknown>;
  negative_prompt_ids?: number[][];
  negative_prompt_attention_mask?: number[][];
  outputs: { sequences: number[][]; sequences_scores?: { data: Float32Array } };
}

/** snake_case as camelCase. */
export function camelCase(name: string): string {
  return name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** Options with our names. */
export function optionsOf(generation: Record<string, unknown>): GenerationOptions {
  return Object.fromEntries(Object.entries(generation).map(([name, value]) => [camelCase(name), value]));
}
