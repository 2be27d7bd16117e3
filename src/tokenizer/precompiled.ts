/**
 * SentencePiece's compiled normalization: a double-array trie of byte strings, and the text each of them becomes.
 *
 * @module
 */
import { asString, refuse } from "./checks.ts";

const encoder = new TextEncoder();
const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
// Python looks longer clusters up character by character only.
const MAX_CLUSTER_BYTES = 5;
const MAX_KNOWN = 10_000;
// Everything else is plain ASCII, where each character is a cluster of its own.
const CLUSTERS = String.raw`\r\n|[\x00-\x7f]?(?:[^\x00-\x7f]+(?:\r\n|[\x00-\x7f])?)+`;

/** The map of a base64 `precompiled_charsmap`. */
export class CharsMap {
  /** Matches the parts of a text that may change. */
  readonly pattern: string;
  /** The most bytes that a cluster can become. */
  readonly longest: number;
  readonly #trie: Uint32Array;
  readonly #texts: Uint8Array;
  readonly #known = new Map<string, string | undefined>();

  /** Decodes `value`, which stands at `path`. */
  constructor(value: unknown, path: string) {
    const base64 = asString(value, path);
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    } catch {
      refuse(path, "be base64", base64);
    }
    const view = new DataView(bytes.buffer), size = bytes.length < 4 ? 0 : view.getUint32(0, true);
    if (size === 0 || size % 4 !== 0 || size + 4 > bytes.length) {
      refuse(path, `hold its trie in ${bytes.length} bytes`, `${size} bytes of trie`);
    }
    this.#trie = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.#texts = bytes.subarray(4 + size);
    this.longest = longestRun(this.#texts);
    this.pattern = this.#findPattern();
  }

  /** What `part`, a match of the pattern, becomes. */
  normalize(part: string): string {
    if (part.length === 1 || part === "\r\n") return this.#normalizeCluster(part); // a segmenter costs 10 µs
    let out = "";
    for (const { segment } of graphemes.segment(part)) out += this.#normalizeCluster(segment);
    return out;
  }

  #normalizeCluster(segment: string): string {
    const whole = encoder.encode(segment).length > MAX_CLUSTER_BYTES ? undefined : this.#lookUp(segment);
    if (whole !== undefined) return whole;
    let out = "";
    for (const char of segment) out += this.#lookUp(char) ?? char;
    return out;
  }

  #findPattern(): string {
    let mapped = "";
    for (let code = 0; code < 128; code++) {
      if (this.#lookUp(String.fromCharCode(code)) !== undefined) mapped += `\\x${code.toString(16).padStart(2, "0")}`;
    }
    return mapped === "" ? CLUSTERS : `${CLUSTERS}|[${mapped}]`;
  }

  /** What the shortest known beginning of `part` becomes, or undefined where none is known. */
  #lookUp(part: string): string | undefined {
    if (this.#known.has(part)) return this.#known.get(part);
    if (this.#known.size === MAX_KNOWN) this.#known.clear();
    const at = this.#find(encoder.encode(part));
    let text: string | undefined;
    if (at !== undefined) {
      const end = this.#texts.indexOf(0, at);
      const bytes = this.#texts.subarray(at, end < 0 ? undefined : end);
      text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
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

/** The most bytes between two zeros. */
function longestRun(bytes: Uint8Array): number {
  let longest = 0, start = 0;
  while (start < bytes.length) {
    const zero = bytes.indexOf(0, start), end = zero < 0 ? bytes.length : zero;
    longest = Math.max(longest, end - start);
    start = end + 1;
  }
  return longest;
}
