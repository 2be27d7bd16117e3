/** Split patterns of well-known tokenizers: linear on every text, so they run without a deadline. */

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const PLAIN_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d";
const SPACES = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`;
const UPPER = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
const LOWER = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;

function cased(contractions: string, numbers: string): string {
  const lead = String.raw`[^\r\n\p{L}\p{N}]?`;
  return String.raw`${lead}${UPPER}*${LOWER}+${contractions}|${lead}${UPPER}+${LOWER}*${contractions}|${numbers}` +
    String.raw`| ?[^\s\p{L}\p{N}]+[\r\n/]*|${SPACES}`;
}

function words(letters: string, numbers: string, marks = ""): string {
  return String
    .raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?${letters}+|${numbers}| ?[^\s\p{L}${marks}\p{N}]+[\r\n]*|${SPACES}`;
}

/** GPT-2's pattern: what the ByteLevel pre-tokenizer splits by. */
export const GPT2 = String
  .raw`${PLAIN_CONTRACTIONS}| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/** Patterns that need neither a check nor a deadline. */
export const KNOWN_PATTERNS: ReadonlySet<string> = new Set([
  GPT2,
  words(String.raw`\p{L}`, String.raw`\p{N}{1,3}`), // Llama 3, GLM 4, SmolLM 3, OLMo 2
  words(String.raw`\p{L}`, String.raw`\p{N}`), // Qwen 2 and 3
  words(String.raw`[\p{L}\p{M}]`, String.raw`\p{N}`, String.raw`\p{M}`), // Qwen 3.5
  cased(`${CONTRACTIONS}?`, String.raw`\p{N}{1,3}`), // GPT-4o, gpt-oss, Llama 4
  cased("", String.raw`\p{N}`), // Mistral's Tekken
  String.raw`[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_` + "`" + // DeepSeek V3
  String.raw`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|${SPACES}`,
  "[一-龥぀-ゟ゠-ヿ]+",
  String.raw`\p{N}{1,3}`,
  String.raw`\p{N}`,
  "[0-9][0-9][0-9]", // Falcon
  String.raw`[\p{P}\$\+<=>\^~\|` + "`]+",
  " ?[^(\\s|[.,!?…。，、।۔،])]+", // Bloom
  String.raw`${PLAIN_CONTRACTIONS}|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`, // CLIP
  " {2,}", // T5, XLM-R
  "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", // Chameleon
  String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}` + // EXAONE 4
  String.raw`| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+`,
]);
