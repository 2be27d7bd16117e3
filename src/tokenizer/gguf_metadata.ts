/**
 * The metadata by which GGUF files describe a tokenizer.
 *
 * @module
 */
import { NotSupportedError } from "../errors.ts";
import type { TypedValue } from "../weights/gguf_write.ts";
import { asObject, isObject, type Json } from "./checks.ts";
import { PRE } from "./gguf_tokenizer.ts";

const NORMAL = 1, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6; // kinds of tokens

/** What {@linkcode tokenizerMetadata} takes. */
export interface TokenizerMetadataOptions {
  /** tokenizer_config.json. */
  config?: Json;
  /** chat_template.jinja. */
  chatTemplate?: string;
  /** Tokens that the model knows; the tokenizer may have fewer. */
  vocabSize: number;
  /** config.json, for the ids of special tokens. */
  model: Json;
}

/**
 * The metadata of a tokenizer.json: its tokens, kinds and merges, and the file itself.
 *
 * @throws {NotSupportedError} for models other than BPE, which GGUF's readers could not rebuild
 */
export function tokenizerMetadata(
  json: Json,
  { config = {}, chatTemplate, vocabSize, model: modelConfig }: TokenizerMetadataOptions,
): (readonly [key: string, value: TypedValue])[] {
  const model = asObject(json.model, "model");
  if (model.type !== undefined && model.type !== "BPE" || !isObject(model.vocab)) {
    throw new NotSupportedError(`Cannot write GGUF as the tokenizer must be BPE: it is ${JSON.stringify(model.type)}`);
  }
  const pieces = model.byte_fallback === true; // SentencePiece's
  const tokens = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`), types = tokens.map(() => UNUSED);
  for (const [token, id] of Object.entries(model.vocab)) {
    tokens[id as number] = token;
    types[id as number] = pieces && /^<0x[0-9A-F]{2}>$/.test(token) ? BYTE : NORMAL;
  }
  for (const entry of Array.isArray(json.added_tokens) ? json.added_tokens : []) {
    const { id, content, special } = entry as { id: number; content: string; special?: boolean };
    tokens[id] = content;
    types[id] = special ? CONTROL : USER_DEFINED;
  }
  const merges = (Array.isArray(model.merges) ? model.merges : []).map((m) =>
    Array.isArray(m) ? m.join(" ") : String(m)
  );
  const template = chatTemplate ?? config.chat_template;
  return [
    ["tokenizer.ggml.model", { type: "string", value: pieces ? "llama" : "gpt2" }],
    ...pieces ? [] : [["tokenizer.ggml.pre", { type: "string", value: preOf(json) }] as const],
    ["tokenizer.ggml.tokens", { type: "strings", value: tokens }],
    ["tokenizer.ggml.token_type", { type: "int32s", value: types }],
    ...pieces
      ? [["tokenizer.ggml.scores", { type: "float32s", value: tokens.map((_, id) => -id) }] as const]
      : [["tokenizer.ggml.merges", { type: "strings", value: merges }] as const],
    ...specialIds(modelConfig, config, tokens),
    ...typeof template === "string" ? [["tokenizer.chat_template", { type: "string", value: template }] as const] : [],
    ["tokenizer.huggingface.json", { type: "string", value: JSON.stringify(json) }],
  ];
}

/** The name of how texts are split; readers that know none of them fall back to GPT-2's. */
function preOf(json: Json): string {
  const parts = isObject(json.pre_tokenizer) ? json.pre_tokenizer.pretokenizers ?? [json.pre_tokenizer] : [];
  const split = (parts as Json[]).find(({ type }) => type === "Split");
  const regex = split && isObject(split.pattern) ? split.pattern.Regex : null;
  return Object.entries(PRE).find(([name, pre]) => name !== "default" && pre.regex === regex)?.[0] ?? "default";
}

function specialIds(model: Json, config: Json, tokens: readonly string[]): [string, TypedValue][] {
  const out: [string, TypedValue][] = [];
  for (const [name, key] of [["bos", "bos"], ["eos", "eos"], ["pad", "padding"], ["unk", "unknown"]] as const) {
    const token = config[`${name}_token`], content = isObject(token) ? token.content : token;
    const ids = [model[`${name}_token_id`]].flat().filter((id) => typeof id === "number");
    const id = ids[0] ?? (typeof content === "string" ? tokens.indexOf(content) : -1);
    if (id >= 0 && id < tokens.length) out.push([`tokenizer.ggml.${key}_token_id`, { type: "uint32", value: id }]);
    if (name === "eos" && ids[1] !== undefined) {
      out.push(["tokenizer.ggml.eot_token_id", { type: "uint32", value: ids[1] }]);
    }
  }
  for (const key of ["add_bos_token", "add_eos_token"]) {
    const value = config[key];
    if (typeof value === "boolean") out.push([`tokenizer.ggml.${key}`, { type: "bool", value }]);
  }
  return out;
}
