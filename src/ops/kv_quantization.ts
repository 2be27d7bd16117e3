import { kernel } from "../gpu/mod.ts";
import codesWgsl from "../shaders/kv_quantize_codes.wgsl" with { type: "text" };
import flattenWgsl from "../shaders/kv_flatten.wgsl" with { type: "text" };
import groupsWgsl from "../shaders/kv_quantize_groups.wgsl" with { type: "text" };
import { empty, type Tensor, tidy } from "../tensor/mod.ts";
import { dtypeFlags } from "./pack_weight.ts";

const findGroups = kernel("kv_quantize_groups", groupsWgsl);
const encode = kernel("kv_quantize_codes", codesWgsl);
const flatten = kernel("kv_flatten", flattenWgsl);

/** Which elements share a scale: runs of them, keys of one channel, or the columns of a matrix of `group` rows. */
export type GroupMode = "consecutive" | "channel" | "strided";

const MODES: readonly GroupMode[] = ["consecutive", "channel", "strided"];

/** How keys and values become codes. */
export interface KvScheme {
  /** The formula of scale and zero. */
  readonly backend: "quanto" | "hqq";
  /** Of the codes. */
  readonly bits: number;
  /** Elements that share a scale. */
  readonly group: number;
  /** Groups of the keys. */
  readonly keys: GroupMode;
  /** Groups of the values. */
  readonly values: GroupMode;
  /** Scales are float32, not float16. */
  readonly wide: boolean;
}

/** Sizes of what is quantized. */
export interface KvSpans {
  /** Key and value heads. */
  readonly kvHeads: number;
  /** Length of a head, a multiple of 4. */
  readonly headDim: number;
  /** Tokens of each sequence. */
  readonly lengths: readonly number[];
}

/** Bits that a code takes: those of 3 bits lie in 4. */
export function storedBits({ bits }: KvScheme): number {
  return bits === 3 ? 4 : bits;
}

/** Where the sequences begin in the flat order, how many elements there are, and the header that says so. */
export function kvLayoutOf({ kvHeads, headDim, lengths }: KvSpans, scheme: KvScheme) {
  const unit = 32 * scheme.group; // sequences begin at whole words and whole groups
  const starts = lengths.reduce((sums, n) => {
    return [...sums, sums.at(-1)! + Math.ceil(n * kvHeads * headDim / unit) * unit];
  }, [0]);
  const elements = Math.max(unit, starts.at(-1)!);
  const headerWords = Math.ceil((8 + 2 * lengths.length) / 64) * 64;
  const header = new Uint32Array(headerWords);
  const modes = modeOf(scheme, 0) + 4 * modeOf(scheme, 1);
  const settings = [headDim, kvHeads, scheme.group, storedBits(scheme), 2 ** scheme.bits - 1, modes];
  header.set([elements, headerWords, ...settings, ...lengths.flatMap((n, b) => [starts[b]!, n])]);
  const codes = elements * storedBits(scheme) / 32, scales = elements / scheme.group * (scheme.wide ? 2 : 1);
  return { starts, elements, header, codes, scales, words: headerWords + 2 * codes + 2 * scales };
}

/** Empty codes and scales: [words] uint32, as include/kv_codes.wgsl says. */
export function emptyKvCodes(device: Tensor["device"], spans: KvSpans, scheme: KvScheme): Tensor {
  const { header, words } = kvLayoutOf(spans, scheme);
  const y = empty(device, [words], "uint32", { exact: true, label: "the cache" });
  device.stream.write(y.buffer, y.byteOffset, new Uint8Array(header.buffer));
  return y;
}

/** What keys in codes are made numbers from: the codes, the rest, and how many there are of each. */
export interface CodedKv {
  /** [words] uint32. */
  readonly words: Tensor;
  /** [2, B, Hkv, R, Dh]: keys and values behind those in codes. */
  readonly rest: Tensor;
  /** [2B] uint32: keys in `rest`, keys in codes. */
  readonly counts: Tensor;
}

/**
 * Keys (part 0) or values (part 1) in the flat order of `to`: from packed tokens, or from codes and the rest.
 *
 * @param to [words] uint32, whose header says where sequences begin
 * @returns [elements] float32
 */
export function flattenKv(
  to: Tensor,
  spans: KvSpans,
  scheme: KvScheme,
  part: 0 | 1,
  from: { packed: Tensor; cuSeqlens: Tensor } | CodedKv,
): Tensor {
  const { elements } = kvLayoutOf(spans, scheme), { device } = to;
  const x = empty(device, [elements]), fresh = "packed" in from;
  const flags: Record<string, boolean> = fresh
    ? { FRESH: true }
    : { ...dtypeFlags(from.rest.dtype), WIDE: scheme.wide };
  flatten(device, {
    flags,
    overrides: { SEQUENCES: spans.lengths.length, PART: part },
    bindings: { to, x, ...from },
    grid: [Math.ceil(elements / 4 / 64)],
  });
  return x;
}

/** Puts the codes and scales of `x`, as {@linkcode flattenKv} gives it, into part 0 (keys) or 1 (values) of `words`. */
export function quantizeKv(x: Tensor, words: Tensor, spans: KvSpans, scheme: KvScheme, part: 0 | 1): void {
  const { elements } = kvLayoutOf(spans, scheme), groups = elements / scheme.group, { device } = x;
  const hqq = scheme.backend === "hqq", SEQUENCES = spans.lengths.length;
  const shared = { PART: part, SEQUENCES };
  tidy(device, () => {
    const params = empty(device, [groups, 2]);
    const bindings = { x, words, params };
    findGroups(device, { flags: { HQQ: hqq }, overrides: shared, bindings, grid: [Math.ceil(groups / 64)] });
    encode(device, {
      flags: { QUANTO: !hqq, WIDE: scheme.wide },
      overrides: shared,
      bindings: { x, params, words },
      grid: [Math.ceil(Math.max(groups, elements * storedBits(scheme) / 32) / 64)],
    });
  });
}

/** How keys (part 0) or values (1) are grouped, as the shaders number it. */
export function modeOf({ keys, values }: KvScheme, part: 0 | 1): number {
  return MODES.indexOf(part === 0 ? keys : values);
}
