/**
 * SentencePiece's compiled normalization: a double-array trie of byte strings, and the text each of them becomes.
 *
 * @module
 */
import { asString, refuse } from "./checks.ts";

const encoder = new TextEncoder();
const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
// Clusters of six bytes and more are looked up character by character only; so it is in the library of the hub.
const LONG_CLUSTER = 6;
// Everything else is plain ASCII, where each character is a cluster of its own.
const CLUSTERS = String.raw`\r\n|[\x00-\x7f]?(?:[^\x00-\x7f]+[\x00-\x7f]?)+`;

/** The normalizer of a base64 `precompiled_charsmap`. */
export function precompiled(value: unknown, path: string): (text: string) => string {
  const map = new CharsMap(asString(value, path), path);
  const mapped = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code))
    .filter((char) => map.lookup(char) !== undefined)
    .map((char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`).join("");
  const touched = new RegExp(mapped === "" ? CLUSTERS : `${CLUSTERS}|[${mapped}]`, "g");
  return (text) => text.replace(touched, (part) => map.normalize(part));
}

class CharsMap {
  readonly #trie: Uint32Array;
  readonly #texts: Uint8Array;
  readonly #known = new Map<string, string | undefined>();

  constructor(base64: string, path: string) {
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    } catch {
      refuse(path, "be base64", base64);
    }
    const size = bytes.length < 4 ? 0 : new DataView(bytes.buffer).getUint32(0, true);
    if (size === 0 || size % 4 !== 0 || size + 4 > bytes.length) {
      refuse(path, `hold its trie in ${bytes.length} bytes`, `${size} bytes of trie`);
    }
    const view = new DataView(bytes.buffer);
    this.#trie = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.#texts = bytes.subarray(4 + size);
  }

  /** What `text` becomes, cluster by cluster. */
  normalize(text: string): string {
    let out = "";
    for (const { segment } of graphemes.segment(text)) {
      const whole = encoder.encode(segment).length < LONG_CLUSTER ? this.lookup(segment) : undefined;
      if (whole !== undefined) {
        out += whole;
        continue;
      }
      for (const char of segment) out += this.lookup(char) ?? char;
    }
    return out;
  }

  /** What the shortest known beginning of `part` becomes, or undefined where none is known. */
  lookup(part: string): string | undefined {
    if (this.#known.has(part)) return this.#known.get(part);
    if (this.#known.size > 10_000) this.#known.clear();
    const at = this.#find(encoder.encode(part));
    let text: string | undefined;
    if (at !== undefined) {
      const end = this.#texts.indexOf(0, at);
      text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(
        this.#texts.subarray(at, end < 0 ? undefined : end),
      );
    }
    this.#known.set(part, text);
    return text;
  }

  /** Walks the double array (the format of darts-clone) to the first leaf. */
  #find(key: Uint8Array): number | undefined {
    let at = offset(this.#trie[0]!);
    for (const byte of key) {
      if (byte === 0) return;
      at ^= byte;
      const unit = this.#trie[at];
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return;
      at ^= offset(unit);
      if ((unit >>> 8) & 1) {
        const leaf = this.#trie[at];
        return leaf === undefined ? undefined : leaf & 0x7fffffff;
      }
    }
  }
}

function offset(unit: number): number {
  return ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0;
}
