/**
 * Post-processors of a tokenizer.json: which special tokens stand around one text, or around two.
 *
 * @module
 */
import { TokenizerError } from "../errors.ts";
import { asArray, asInteger, asObject, asOneOf, asString, buildPart, type Json, MAX_ID, refuse } from "./checks.ts";

/** A place of a template: a text's tokens or special tokens, and the type id that they all get. */
export type Item = { text: "A" | "B"; typeId: number } | { ids: readonly number[]; typeId: number };

/** What to put around one text (A) and around a pair (A and B). */
export interface Template {
  /** Around one text. */
  single: readonly Item[];
  /** Around two. */
  pair: readonly Item[];
}

/** A template without special tokens. */
export const PLAIN: Template = {
  single: [{ text: "A", typeId: 0 }],
  pair: [{ text: "A", typeId: 0 }, { text: "B", typeId: 1 }],
};

/** The template of a tokenizer.json's post-processor; null adds nothing. */
export function createTemplate(config: unknown): Template {
  if (config === null || config === undefined) return PLAIN;
  return buildPart<Template>("post_processor", config, {
    BertProcessing: (c) => {
      const cls = pairOf(c.cls, "post_processor.cls"), sep = pairOf(c.sep, "post_processor.sep");
      const single: Item[] = [{ ids: [cls], typeId: 0 }, { text: "A", typeId: 0 }, { ids: [sep], typeId: 0 }];
      return { single, pair: [...single, { text: "B", typeId: 1 }, { ids: [sep], typeId: 1 }] };
    },
    ByteLevel: () => PLAIN,
    RobertaProcessing: (c) => {
      const cls = pairOf(c.cls, "post_processor.cls"), sep = pairOf(c.sep, "post_processor.sep");
      const single: Item[] = [{ ids: [cls], typeId: 0 }, { text: "A", typeId: 0 }, { ids: [sep], typeId: 0 }];
      return {
        single,
        pair: [...single, { ids: [sep], typeId: 0 }, { text: "B", typeId: 0 }, { ids: [sep], typeId: 0 }],
      };
    },
    Sequence: (c) => {
      const all = asArray(c.processors, "post_processor.processors").map(createTemplate);
      const [first, second] = all.filter((template) => template !== PLAIN);
      if (!second) return first ?? PLAIN;
      throw new TokenizerError(
        "Cannot load the tokenizer as its post_processor must hold one template: it holds several",
      );
    },
    TemplateProcessing: (c) => ({ single: items(c, "single"), pair: items(c, "pair") }),
  });
}

/** The template with only a beginning and an end token, either of them undefined. */
export function bosEosTemplate(bos: number | undefined, eos: number | undefined): Template {
  const around = (text: "A" | "B", typeId: number): Item[] => [
    ...(bos === undefined ? [] : [{ ids: [bos], typeId }]),
    { text, typeId },
    ...(eos === undefined ? [] : [{ ids: [eos], typeId }]),
  ];
  return { single: around("A", 0), pair: [...around("A", 0), ...around("B", 1)] };
}

/** How many special tokens `items` adds. */
export function specialCount(items: readonly Item[]): number {
  return items.reduce((sum, item) => sum + ("ids" in item ? item.ids.length : 0), 0);
}

/** The id of a `[token, id]` pair. */
function pairOf(value: unknown, path: string): number {
  const [token, id] = asArray(value, path);
  asString(token, `${path}[0]`);
  return asInteger(id, `${path}[1]`, 0, MAX_ID);
}

function items(config: Json, key: "single" | "pair"): Item[] {
  const path = `post_processor.${key}`;
  const special = asObject(config.special_tokens ?? {}, "post_processor.special_tokens");
  return asArray(config[key], path).map((value, i) => {
    const entry = asObject(value, `${path}[${i}]`);
    const kind = asOneOf(Object.keys(entry)[0], `the key of ${path}[${i}]`, ["Sequence", "SpecialToken"]);
    const { id, type_id } = asObject(entry[kind], `${path}[${i}].${kind}`);
    const typeId = asInteger(type_id, `${path}[${i}].${kind}.type_id`, 0, MAX_ID);
    if (kind === "Sequence") {
      const text = asOneOf(id, `${path}[${i}].Sequence.id`, key === "pair" ? ["A", "B"] : ["A"]);
      return { text, typeId };
    }
    const name = asString(id, `${path}[${i}].SpecialToken.id`);
    if (!Object.hasOwn(special, name)) refuse(`post_processor.special_tokens`, `hold ${name}`, Object.keys(special));
    const { ids } = asObject(special[name], `post_processor.special_tokens.${name}`);
    return {
      ids: asArray(ids, `the ids of ${name}`).map((n) => asInteger(n, `an id of ${name}`, 0, MAX_ID)),
      typeId,
    };
  });
}
