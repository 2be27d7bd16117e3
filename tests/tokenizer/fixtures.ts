/** Tokenizers for the tests: those of the reference data where it lies, small ones of Python's, and the default model's. */
import { hasReference, referencePath } from "../reference.ts";

/** A JSON object. */
export type Json = Record<string, unknown>;

/** A text and what Python makes of it. */
export interface TokenizerCase {
  text: string;
  ids: number[];
  decoded: string;
  skipped: string;
  some: number[];
  some_decoded: string;
  pair: string;
  pair_ids: number[];
  pair_types: number[];
  truncated: number[];
  truncated_pair: number[];
}

/** tests/data/tokenizers.json. */
export interface PartsOfPython {
  texts: string[];
  tokens: string[][];
  normalizers: { config: Json; texts: string[] }[];
  pre_tokenizers: { config: Json; pieces: string[][] }[];
  decoders: { config: Json; texts: string[] }[];
  tokenizers: Record<string, { json: Json; cases: TokenizerCase[] }>;
}

/** What tests/data/make_tokenizers.py wrote. */
export async function partsOfPython(): Promise<PartsOfPython> {
  return JSON.parse(await Deno.readTextFile(new URL("../data/tokenizers.json", import.meta.url)));
}

/** The folder of the default model. */
export const DEFAULT_MODEL = new URL("../../models/tensaur-tiny", import.meta.url).pathname;

/** tokenizer.json of the default model. */
export async function defaultTokenizerJson(): Promise<Json> {
  return JSON.parse(await Deno.readTextFile(`${DEFAULT_MODEL}/tokenizer.json`));
}

/** Folders of the reference data with a tokenizer and goldens for it, by kind; none without the data. */
export function referenceTokenizers(): [kind: string, folder: string][] {
  if (!hasReference("data/tokenizers")) {
    Deno.test({ name: "skipped: data/tokenizers of the reference data is not there", ignore: true, fn() {} });
    return [];
  }
  const root = referencePath("data/tokenizers");
  return [...Deno.readDirSync(root)].map(({ name }): [string, string] => [name, `${root}/${name}`]).sort();
}
