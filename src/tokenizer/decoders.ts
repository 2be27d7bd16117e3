/**
 * Decoders of a tokenizer.json: tokens to text, a token at a time.
 *
 * Each decoder is a stage that takes tokens and passes text on as soon as nothing that follows can change it, so that
 * decoding a list and streaming it are the same code.
 *
 * @module
 */
import { Budget } from "./budget.ts";
import { tokenBytes } from "./byte_chars.ts";
import { asArray, asBoolean, asCharacter, asInteger, asString, buildPart, type Json, MAX_ID } from "./checks.ts";
import { replaceMatches } from "./normalizers.ts";
import { compilePattern } from "./regex.ts";

/** Takes a token or text from the stage before. */
export type Sink = (text: string) => void;

/** A stage at work on one list of tokens. */
export interface Stage {
  /** Takes the next token. */
  push(token: string, out: Sink): void;
  /** Passes on what was held back: no token follows. */
  end(out: Sink): void;
}

/** Starts a stage; `fused` says that what comes are the pieces of a single token. */
export type Decoder = (fused: boolean) => Stage;

/** A decoder, and whether it passes on a single token, in pieces. */
interface Part {
  start: Decoder;
  fuses: boolean;
}

/** The decoder of a tokenizer.json; null puts spaces between the tokens. */
export function createDecoder(config: unknown, trust: boolean): () => Stage {
  const { start } = config === null || config === undefined
    ? tokenwise((t, i) => i > 0 ? ` ${t}` : t)
    : part(config, trust);
  return () => start(false);
}

function part(config: unknown, trust: boolean): Part {
  return buildPart<Part>("decoder", config, {
    BPEDecoder: bpeDecoder,
    ByteFallback: () => whole({ start: byteFallback, fuses: false }),
    ByteLevel: () => {
      const known = new Map<string, string | Uint8Array>();
      return whole({ start: () => byteLevel(known), fuses: true });
    },
    CTC: ctc,
    Fuse: () => ({ start: () => ({ push: (token, out) => out(token), end() {} }), fuses: true }),
    Metaspace: metaspace,
    Replace: (c) => {
      const pattern = compilePattern(c.pattern, "decoder.pattern", trust);
      const content = asString(c.content, "decoder.content");
      return tokenwise((token) => replaceMatches(token, pattern, content, new Budget()));
    },
    Sequence: (c) => sequence(asArray(c.decoders, "decoder.decoders").map((each) => part(each, trust))),
    Strip: strip,
    WordPiece: (c) => {
      const prefix = asString(c.prefix, "decoder.prefix", "##");
      const cleanup = asBoolean(c.cleanup, "decoder.cleanup", true) ? cleanWordPiece : (token: string) => token;
      return tokenwise((token, i) =>
        cleanup(i === 0 ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`)
      );
    },
  });
}

/** A decoder of whole tokens: pieces of a single one are put together first. */
function whole({ start, fuses }: Part): Part {
  return {
    fuses,
    start(fused) {
      const stage = start(false);
      if (!fused) return stage;
      let token = "";
      return {
        push: (piece) => void (token += piece),
        end(out) {
          stage.push(token, out);
          stage.end(out);
        },
      };
    },
  };
}

/** A decoder that looks at one token and its index. */
function tokenwise(decode: (token: string, index: number) => string): Part {
  const start = (): Stage => {
    let index = 0;
    return { push: (token, out) => out(decode(token, index++)), end() {} };
  };
  return whole({ start, fuses: false });
}

function sequence(parts: readonly Part[]): Part {
  return {
    fuses: parts.some((each) => each.fuses),
    start(fused) {
      const stages: Stage[] = [];
      let single = fused;
      for (const each of parts) {
        stages.push(each.start(single));
        single ||= each.fuses;
      }
      const into = (i: number, out: Sink): Sink => {
        const stage = stages[i];
        if (!stage) return out;
        const next = into(i + 1, out);
        return (token) => stage.push(token, next);
      };
      return {
        push: (token, out) => into(0, out)(token),
        end: (out) => stages.forEach((stage, i) => stage.end(into(i + 1, out))),
      };
    },
  };
}

/** GPT-2's decoder; `known` remembers tokens that are whole characters as text, the others as bytes. */
function byteLevel(known: Map<string, string | Uint8Array>): Stage {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true }); // a byte order mark is text like any other
  let held: Uint8Array | undefined; // the beginning of an unfinished character
  return {
    push(token, out) {
      let value = known.get(token);
      if (value === undefined) known.set(token, value = wholeCharacters(tokenBytes(token)));
      if (typeof value === "string") {
        if (held) out(decoder.decode(held));
        held = undefined;
        return out(value);
      }
      const all = held ? concat(held, value) : value;
      const end = all.length - unfinished(all);
      held = end < all.length ? all.slice(end) : undefined;
      if (end > 0) out(decoder.decode(all.subarray(0, end)));
    },
    end(out) {
      if (held) out(decoder.decode(held));
    },
  };
}

/** The text of `bytes`, or the bytes themselves where they are no UTF-8. */
function wholeCharacters(bytes: Uint8Array): string | Uint8Array {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return bytes;
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

/** How many bytes at the end of `bytes` begin a UTF-8 character that they do not finish. */
function unfinished(bytes: Uint8Array): number {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back]!;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0;
  }
  return 0;
}

function byteFallback(): Stage {
  let run: number[] = [];
  const flush = (out: Sink) => {
    if (run.length === 0) return;
    try {
      out(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(run)));
    } catch {
      for (const _ of run) out("\ufffd");
    }
    run = [];
  };
  return {
    push(token, out) {
      const byte = /^<0x([0-9a-fA-F]{2})>$/.exec(token);
      if (byte) return void run.push(parseInt(byte[1]!, 16));
      flush(out);
      out(token);
    },
    end: flush,
  };
}

function metaspace(config: Json): Part {
  const replacement = asCharacter(config.replacement, "decoder.replacement", "▁");
  const legacy = asBoolean(config.add_prefix_space, "decoder.add_prefix_space", true) ? "always" : "never";
  const strips = (config.prepend_scheme ?? legacy) !== "never";
  return tokenwise((token, i) => token.replaceAll(replacement, i === 0 && strips ? "" : " "));
}

function bpeDecoder(config: Json): Part {
  const suffix = asString(config.suffix, "decoder.suffix", "</w>");
  const start = (): Stage => {
    let held: string | undefined;
    return {
      push(token, out) {
        if (held !== undefined) out(suffix === "" ? held : held.replaceAll(suffix, " "));
        held = token;
      },
      end: (out) => out(suffix === "" ? held ?? "" : (held ?? "").replaceAll(suffix, "")),
    };
  };
  return whole({ start, fuses: false });
}

function ctc(config: Json): Part {
  const pad = asString(config.pad_token, "decoder.pad_token", "<pad>");
  const delimiter = asString(config.word_delimiter_token, "decoder.word_delimiter_token", "|");
  const cleanup = asBoolean(config.cleanup, "decoder.cleanup", true);
  const start = (): Stage => {
    let last: string | undefined;
    return {
      push(token, out) {
        if (token === last) return;
        last = token;
        const text = pad === "" ? token : token.replaceAll(pad, "");
        const clean = cleanup ? cleanWordPiece(text) : text;
        out(cleanup && delimiter !== "" ? clean.replaceAll(delimiter, " ") : clean);
      },
      end() {},
    };
  };
  return whole({ start, fuses: false });
}

/** Takes up to `start` characters off the front of each token and up to `stop` off its end. */
function strip(config: Json): Part {
  const content = asCharacter(config.content, "decoder.content", " ");
  const front = asInteger(config.start, "decoder.start", 0, MAX_ID, 0);
  const back = asInteger(config.stop, "decoder.stop", 0, MAX_ID, 0);
  const start = (fused: boolean): Stage => {
    let left = front, tail = ""; // tail: what may turn out to be the end
    const push = (text: string, out: Sink) => {
      let at = 0;
      while (left > 0 && at < text.length) {
        if (text.startsWith(content, at)) {
          left--;
          at += content.length;
        } else left = 0;
      }
      const all = tail + text.slice(at);
      let end = all.length;
      for (let i = 0; i < back && all.slice(0, end).endsWith(content); i++) end -= content.length;
      tail = all.slice(end);
      out(all.slice(0, end));
    };
    if (fused) return { push, end() {} };
    return {
      push(token, out) {
        left = front;
        push(token, out);
        tail = "";
      },
      end() {},
    };
  };
  return { start, fuses: false };
}

/** What BERT's decoder does to each token. */
function cleanWordPiece(token: string): string {
  if (!token.includes(" ")) return token;
  return token.replaceAll(" .", ".").replaceAll(" ?", "?").replaceAll(" !", "!").replaceAll(" ,", ",")
    .replaceAll(" ' ", "'").replaceAll(" n't", "n't").replaceAll(" 'm", "'m").replaceAll(" do not", " don't")
    .replaceAll(" 's", "'s").replaceAll(" 've", "'ve").replaceAll(" 're", "'re");
}
