/**
 * The parts of a tokenizer.json, made ready for `@huggingface/tokenizers`: types that it does not know or runs otherwise
 * than Python are refused, and what it would read otherwise is said in parts that it runs alike.
 *
 * @module
 */
import { asArray, asBoolean, asObject, asOneOf, asString, byType, type Json, refuse } from "./checks.ts";
import { GPT2 } from "./known_patterns.ts";
import { CharsMap } from "./precompiled.ts";
import { checkPattern, escape, own, type Pattern } from "./regex.ts";

/** What goes from part to part while they are read. */
interface Context {
  readonly trust: boolean;
  /** How many times longer the parts so far can make a text. */
  growth: number;
}

type Rule = (config: Json, path: string, context: Context) => Json;

// A text of 4 Mi characters stays below the longest string that JavaScript can hold.
const MAX_GROWTH = 16;
// NFKC, whose growth is not counted, makes up to 33 bytes of a character.
const NFKC_BYTES = 33;
const PUNCTUATION = String.raw`\p{P}\x21-\x2F\x3A-\x40\x5B-\x60\x7B-\x7E`;
const WORD = String.raw`\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}`;
// JavaScript gives a sigma at the end of a word its own small letter.
const SIGMA = { type: "Replace", pattern: own("Σ"), content: "σ" };
// The library's BertNormalizer looks at UTF-16 units.
const HAN = { type: "Replace", pattern: own(String.raw`[\x{20000}-\x{2CEAF}\x{2F800}-\x{2FA1F}]`), content: " $& " };

const same: Rule = (config) => config;

const NORMALIZERS: Record<string, Rule> = {
  BertNormalizer: bertNormalizer,
  Lowercase: (config) => ({ type: "Sequence", normalizers: [SIGMA, config] }),
  NFC: same,
  NFD: same,
  NFKC: same,
  NFKD: same,
  Precompiled: precompiled,
  Prepend: ({ prepend }, path) => ({ type: "Prepend", prepend: asString(prepend, `${path}.prepend`) }),
  Replace: replace,
  Sequence: (config, path, context) => sequence(config, "normalizers", NORMALIZERS, path, context),
  Strip: same,
  StripAccents: same,
};

const PRE_TOKENIZERS: Record<string, Rule> = {
  BertPreTokenizer: () => split(own(String.raw`[^\s${PUNCTUATION}]+|[${PUNCTUATION}]`), "Removed", true),
  ByteLevel: byteLevel,
  Digits: ({ individual_digits }) => split(own(String.raw`\p{N}` + (individual_digits === true ? "" : "+"))),
  Metaspace: metaspace,
  Punctuation: ({ behavior }, path) => {
    const known = asOneOf(behavior ?? "Isolated", `${path}.behavior`, ["Isolated", "Contiguous"]);
    return split(own(`[${PUNCTUATION}]` + (known === "Isolated" ? "" : "+")));
  },
  Sequence: (config, path, context) => sequence(config, "pretokenizers", PRE_TOKENIZERS, path, context),
  Split: splitter,
  Whitespace: () => split(own(String.raw`[${WORD}]+|[^\s${WORD}]+`), "Removed", true),
  WhitespaceSplit: () => split(own(String.raw`\s+`), "Removed"),
};

const POST_PROCESSORS: Record<string, Rule> = {
  BertProcessing: same,
  ByteLevel: same,
  RobertaProcessing: robertaProcessing,
  Sequence: (config, path, context) => sequence(config, "processors", POST_PROCESSORS, path, context),
  TemplateProcessing: same,
};

const DECODERS: Record<string, Rule> = {
  BPEDecoder: same,
  ByteFallback: same,
  ByteLevel: same,
  Fuse: same,
  Metaspace: (config, path) => {
    const replacement = asCharacter(config.replacement, `${path}.replacement`);
    if (prependScheme(config, path) !== "never") return { type: "Metaspace", replacement };
    return { type: "Replace", pattern: own(escape(replacement)), content: " " };
  },
  Replace: replace,
  Sequence: decoders,
  Strip: same,
  WordPiece: same,
};

/** All parts but the model; `trust` runs their regular expressions without checks. */
export function readParts(json: Json, trust: boolean): Json {
  const read = (name: string, rules: Record<string, Rule>) => part(json[name], rules, name, { trust, growth: 1 });
  return {
    normalizer: read("normalizer", NORMALIZERS),
    pre_tokenizer: read("pre_tokenizer", PRE_TOKENIZERS),
    post_processor: read("post_processor", POST_PROCESSORS),
    decoder: read("decoder", DECODERS),
  };
}

/** The post-processor that puts only a beginning and an end token around each text, either of them undefined. */
export function bosEosTemplate(bos: string | undefined, eos: string | undefined): Json {
  const token = (id: string | undefined, type_id: number) =>
    id === undefined ? [] : [{ SpecialToken: { id, type_id } }];
  const around = (id: string, type_id: number) => {
    return [...token(bos, type_id), { Sequence: { id, type_id } }, ...token(eos, type_id)];
  };
  return { type: "TemplateProcessing", single: around("A", 0), pair: [...around("A", 0), ...around("B", 1)] };
}

function part(value: unknown, rules: Record<string, Rule>, path: string, context: Context): Json | null {
  if (value === null || value === undefined) return null;
  const config = asObject(value, path);
  return byType(path, config, rules)(config, path, context);
}

function sequence(config: Json, key: string, rules: Record<string, Rule>, path: string, context: Context): Json {
  const parts = asArray(config[key], `${path}.${key}`);
  return { type: "Sequence", [key]: parts.map((each, i) => part(each, rules, `${path}.${key}[${i}]`, context)) };
}

/** A stream could not take back what a replacement in the whole text changes. */
function decoders(config: Json, path: string, context: Context): Json {
  const all = sequence(config, "decoders", DECODERS, path, context);
  const types = (all.decoders as (Json | null)[]).map((each) => each?.type);
  const joined = types.findIndex((type) => ["ByteLevel", "Fuse", "Sequence"].includes(type as string));
  if (joined < 0 || !types.includes("Replace", joined)) return all;
  return refuse(path, "replace before its tokens are joined", types);
}

/** The library gives the second text of a pair type 1. */
function robertaProcessing({ cls, sep }: Json, path: string): Json {
  const token = (value: unknown, key: string) => ({
    SpecialToken: { id: asString(asArray(value, `${path}.${key}`)[0], `${path}.${key}[0]`), type_id: 0 },
  });
  const text = (id: string) => ({ Sequence: { id, type_id: 0 } }), end = token(sep, "sep");
  const single = [token(cls, "cls"), text("A"), end];
  return { type: "TemplateProcessing", single, pair: [...single, end, text("B"), end] };
}

function bertNormalizer(config: Json): Json {
  const before = [...(config.lowercase ? [SIGMA] : []), ...(config.handle_chinese_chars ? [HAN] : [])];
  return { type: "Sequence", normalizers: [...before, config] };
}

function replace(config: Json, path: string, context: Context): Json {
  const pattern = checkPattern(config.pattern, `${path}.pattern`, context.trust);
  const content = asString(config.content, `${path}.content`);
  // A regular expression may match between two characters.
  grow(context, content.length + (pattern.literal === undefined ? 1 : 0), `${path}.content`, content);
  return { type: "Replace", pattern, content: content.replaceAll("$", "$$$$") };
}

/** The library's own is NFKC with changes; its Replace hands `content` to replaceAll(), which calls it. */
function precompiled({ precompiled_charsmap }: Json, parent: string, context: Context): Json {
  const path = `${parent}.precompiled_charsmap`, map = new CharsMap(precompiled_charsmap, path);
  grow(context, map.longest / NFKC_BYTES, path, precompiled_charsmap);
  return { type: "Replace", pattern: own(map.pattern), content: (part: string) => map.normalize(part) };
}

function grow(context: Context, factor: number, path: string, value: unknown): void {
  context.growth *= Math.max(1, factor);
  if (context.growth > MAX_GROWTH) refuse(path, `make texts at most ${MAX_GROWTH} times longer`, value);
}

function split(pattern: Pattern, behavior = "Isolated", invert = false): Json {
  return { type: "Split", pattern, behavior, invert };
}

function splitter(config: Json, path: string, { trust }: Context): Json {
  const pattern = checkPattern(config.pattern, `${path}.pattern`, trust);
  const merging = ["MergedWithPrevious", "MergedWithNext", "Contiguous"] as const;
  const behavior = asOneOf(config.behavior, `${path}.behavior`, ["Isolated", "Removed", ...merging]);
  const invert = asBoolean(config.invert, `${path}.invert`, false);
  if (behavior === "Isolated") return split(pattern);
  if (behavior === "Removed") {
    if (pattern.groups > 0) {
      refuse(`${path}.pattern`, "have no groups that capture where it is Removed", config.pattern);
    }
    return split(pattern, behavior, invert);
  }
  if (invert || pattern.literal?.length !== 1) {
    refuse(path, "be Isolated or Removed, or split at one character without invert", config);
  }
  const c = pattern.Regex, rest = `[^${c}]*`;
  return split(own({ MergedWithPrevious: rest + c, MergedWithNext: c + rest, Contiguous: `${c}+` }[behavior]));
}

/** The library's own pattern takes U+FEFF for a space, and U+0085 for none. */
function byteLevel(config: Json, path: string): Json {
  const prefix = asBoolean(config.add_prefix_space, `${path}.add_prefix_space`, true);
  const words = asBoolean(config.use_regex, `${path}.use_regex`, true);
  return {
    type: "Sequence",
    pretokenizers: [
      ...(prefix ? [{ type: "Metaspace", replacement: " ", prepend_scheme: "always" }] : []),
      ...(words ? [split(own(GPT2))] : []),
      { type: "ByteLevel", use_regex: false, add_prefix_space: false },
    ],
  };
}

function metaspace(config: Json, path: string): Json {
  const replacement = asCharacter(config.replacement, `${path}.replacement`), c = escape(replacement);
  const spaces = { type: "Metaspace", replacement, prepend_scheme: prependScheme(config, path) };
  if (spaces.prepend_scheme === "first" && /\[[1-9]/.test(path)) refuse(path, "not prepend after a split", config);
  if (!asBoolean(config.split, `${path}.split`, true)) return spaces;
  return { type: "Sequence", pretokenizers: [spaces, split(own(`${c}[^${c}]*`))] };
}

function prependScheme(config: Json, path: string): string {
  const older = asBoolean(config.add_prefix_space, `${path}.add_prefix_space`, true) ? "always" : "never";
  return asOneOf(config.prepend_scheme ?? older, `${path}.prepend_scheme`, ["always", "first", "never"]);
}

function asCharacter(value: unknown = "▁", path: string): string {
  return typeof value === "string" && value.length === 1 ? value : refuse(path, "be one character", value);
}
