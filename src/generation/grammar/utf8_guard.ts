/**
 * Tokens that are parts of characters: the matcher counts the bytes of a character, but takes some that no character has
 * (overlong forms, surrogates, what lies past the last one), which would be read as several.
 *
 * @module
 */
import type { GrammarVocabulary } from "./grammar_worker.ts";

// After these lead bytes not every continuation byte may follow: [lead, least, most].
const NARROW: readonly (readonly [lead: number, least: number, most: number])[] = [
  [0xe0, 0xa0, 0xbf],
  [0xed, 0x80, 0x9f],
  [0xf0, 0x90, 0xbf],
  [0xf4, 0x80, 0x8f],
];

/** What each token's bytes let follow. */
export class Utf8Guard {
  readonly #first: Uint8Array;
  readonly #last: Uint8Array;

  /** Of a vocabulary as the matcher gets it. */
  constructor({ vocab, vocabType }: Pick<GrammarVocabulary, "vocab" | "vocabType">) {
    const bytes = vocab.map((token) => bytesOf(token, vocabType));
    this.#first = Uint8Array.from(bytes, (each) => each[0] ?? 0);
    this.#last = Uint8Array.from(bytes, (each) => each.at(-1) ?? 0);
  }

  /** Forbids what would make an impossible character with `token` before it. */
  apply(token: number, scores: Float32Array): void {
    const narrow = NARROW.find(([lead]) => lead === this.#last[token]);
    if (!narrow) return;
    for (let id = 0; id < scores.length; id++) {
      if (this.#first[id]! < narrow[1] || this.#first[id]! > narrow[2]) scores[id] = -Infinity;
    }
  }
}

/** Whether a token has bytes that no text has. */
export function isImpossible(token: string, vocabType: GrammarVocabulary["vocabType"]): boolean {
  const bytes = bytesOf(token, vocabType);
  return bytes.some((byte, i) => {
    const narrow = NARROW.find(([lead]) => lead === bytes[i - 1]);
    return byte === 0xc0 || byte === 0xc1 || byte > 0xf4 || narrow && (byte < narrow[1] || byte > narrow[2]);
  });
}

function bytesOf(token: string, vocabType: GrammarVocabulary["vocabType"]): number[] {
  if (vocabType === "byte_fallback" && /^<0x[0-9A-F]{2}>$/.test(token)) return [parseInt(token.slice(3, 5), 16)];
  if (vocabType !== "byte_level") return [...new TextEncoder().encode(token)];
  return Array.from(token, (c) => BYTES.get(c.codePointAt(0)!) ?? 0);
}

/** The byte that each character of a byte-level vocabulary stands for: what can be printed is itself. */
const BYTES: ReadonlyMap<number, number> = (() => {
  let others = 0;
  return new Map(Array.from({ length: 256 }, (_, byte) => {
    const printed = byte > 32 && byte < 127 || byte > 160 && byte !== 173;
    return [printed ? byte : 256 + others++, byte] as const;
  }));
})();
