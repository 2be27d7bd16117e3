/**
 * The options `jsonSchema`, `regex` and `grammar`: what they must be, and the mask that they become.
 *
 * @module
 */
import { LimitError, NotSupportedError, ValueError } from "../../errors.ts";
import { parseJsonText } from "../../weights/json_text.ts";
import type { ResolvedOptions, TextCodec } from "../options.ts";
import type { GrammarText, GrammarVocabulary } from "./grammar_worker.ts";
import { enforceable } from "./json_schema.ts";
import { TokenMask } from "./token_mask.ts";
import { isVocabulary, tokensOf, type Vocabulary } from "../vocabulary.ts";
import { isImpossible } from "./utf8_guard.ts";

type Kind = GrammarText["kind"];

const KINDS = ["jsonSchema", "regex", "grammar"] as const;
const MAX_BYTES = 64 * 1024, MAX_DEPTH = 32;

/**
 * Compiles the grammar that `o` asks for; undefined where it asks for none.
 *
 * @throws {ValueError} if there are two of them, no tokenizer or no end of sequence, or the grammar has a mistake
 * @throws {NotSupportedError} if a JSON schema has a keyword that cannot be enforced
 * @throws {LimitError} if the grammar is too long, nested too deeply, or takes too long to compile
 */
export async function compileConstraint(o: ResolvedOptions, vocabSize: number): Promise<TokenMask | undefined> {
  const given = KINDS.filter((kind) => o[kind] !== undefined), [kind] = given;
  if (kind === undefined) return;
  if (given.length > 1) {
    throw new ValueError(`Cannot generate as only one of ${KINDS.join(", ")} can be set: ${given} are`);
  }
  const text = textOf(kind, o[kind]!);
  const vocabulary = vocabularyOf(o.tokenizer, kind);
  if (o.eosTokenIds.length === 0) {
    throw new ValueError(`Cannot generate with ${kind} as eosTokenId must name a token: it is null`, {
      hint: "The end of sequence is what follows a complete output.",
    });
  }
  const vocab = grammarVocabulary(vocabulary, vocabSize, kind);
  return await TokenMask.compile({ kind, text, ...vocab, stopTokenIds: [...o.eosTokenIds] }, o);
}

/** The grammar as text, within its limits. */
function textOf(kind: Kind, given: string | object): string {
  const text = typeof given === "string" ? given : JSON.stringify(given);
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > MAX_BYTES) {
    throw new LimitError(`Cannot generate as ${kind} must have at most ${MAX_BYTES} bytes: it has ${bytes}`);
  }
  const depth = nesting(text);
  if (depth > MAX_DEPTH) {
    throw new LimitError(`Cannot generate as ${kind} must be nested at most ${MAX_DEPTH} deep: it is ${depth} deep`);
  }
  if (kind !== "jsonSchema") return text;
  if (!/@int:/.test(text)) return JSON.stringify(enforceable(parsed(text)));
  throw new NotSupportedError('Cannot generate as jsonSchema must do without "@int:": it stands for numbers here');
}

/** How deep brackets of any kind lie within each other. */
function nesting(text: string): number {
  let depth = 0, most = 0;
  for (const [c] of text.matchAll(/\\[^]|[([{)\]}]/g)) {
    if ("([{".includes(c)) most = Math.max(most, ++depth);
    else if (c.length === 1) depth--;
  }
  return most;
}

function parsed(text: string): unknown {
  try {
    return parseJsonText(text);
  } catch (cause) {
    throw new ValueError(`Cannot generate as jsonSchema must be JSON: ${(cause as Error).message}`, { cause });
  }
}

function vocabularyOf(tokenizer: TextCodec | undefined, kind: Kind): Vocabulary {
  if (isVocabulary(tokenizer)) return tokenizer;
  throw new ValueError(
    `Cannot generate with ${kind} as tokenizer must be given: it is ${tokenizer && "another kind"}`,
    {
      hint: "Pass what loadTokenizer gives.",
    },
  );
}

type Tokens = Pick<GrammarVocabulary, "vocab" | "vocabType">;
const known = new WeakMap<readonly string[], Map<boolean, Tokens>>();

/** Tokens by id as a grammar of `kind` may use them, and how they are written; those it may not use are empty. */
export function grammarVocabulary(vocabulary: Vocabulary, vocabSize: number, kind: Kind): Tokens {
  const tokens = tokensOf(vocabulary, vocabSize), json = kind === "jsonSchema";
  const before = known.get(tokens) ?? new Map<boolean, Tokens>();
  const found = before.get(json) ?? usable(tokens, json);
  known.set(tokens, before.set(json, found));
  return found;
}

function usable(tokens: readonly string[], json: boolean): Tokens {
  const vocabType = tokens.some((token) => token.startsWith("Ġ"))
    ? "byte_level"
    : tokens.includes("<0x0A>")
    ? "byte_fallback"
    : "raw";
  const possible = tokens.map((token) => isImpossible(token, vocabType) ? "" : token);
  if (!json) return { vocab: possible, vocabType };
  // JSON on one line has no control characters; the matcher would take them in strings of bounded length
  const control = vocabType === "byte_level" ? /[\u0100-\u011f]/ : /\p{Cc}|^<0x[01].>$/u;
  return { vocab: possible.map((token) => control.test(token) ? "" : token), vocabType };
}
