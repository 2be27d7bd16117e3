/** The peers' lines as a table with ratios. */
import { round } from "../goals.ts";
import type { Origin } from "../report.ts";
import { reasonFor } from "./reasons.ts";

/** One measurement, as the peers' scripts print it. */
export interface PeerLine {
  peer: string;
  backend: string;
  case: string;
  dtype: string;
  /** Milliseconds; of the fastest. */
  ms_min: number;
  n: number;
  /** Tokens a second. */
  tok_s?: number;
  /** What went wrong instead. */
  error?: string;
}

/** What a run beside the peers found. */
export interface PeerReport {
  origin: Origin;
  /** Versions by package. */
  versions: Record<string, string>;
  /** Complete turns that everyone had. */
  rounds: number;
  /** The fastest of each case, peer, backend and dtype. */
  lines: PeerLine[];
  /** Who could not run, and why. */
  missing: string[];
}

/** One of ours beside one of theirs. */
export interface PeerRow {
  case: string;
  ours: PeerLine;
  theirs: PeerLine;
  /** How many times as fast we are. */
  ratio: number;
}

const DTYPES: Record<string, string> = { fp32: "f32", fp16: "f16" };

/** Cases are named by their length too, and peers that are slow generate fewer tokens. */
export function caseOf(line: PeerLine): string {
  return line.case.replace(/decode\d+$/, "decode");
}

/** The fastest line of each case, peer, backend and dtype. */
export function fastest(lines: readonly PeerLine[]): PeerLine[] {
  const best = new Map<string, PeerLine>();
  for (const line of lines) {
    if (!(cost(line) > 0)) continue; // failed, or noise was larger than the op
    const key = [caseOf(line), line.peer, line.backend, line.dtype].join("\n"), old = best.get(key);
    if (!old || cost(line) < cost(old)) best.set(key, line);
  }
  return [...best.values()];
}

/** Time of a case; of a token, where tokens are counted. */
function cost({ tok_s, ms_min }: PeerLine): number {
  return tok_s ? 1000 / tok_s : ms_min;
}

/** Ours beside each of theirs: of the same dtype, else of float16, else of any. */
export function rows(lines: readonly PeerLine[]): PeerRow[] {
  const all = fastest(lines), ours = all.filter(({ peer }) => peer === "tensaur");
  return all.filter(({ peer }) => peer !== "tensaur").flatMap((theirs) => {
    const same = ours.filter((line) => caseOf(line) === caseOf(theirs));
    const dtype = DTYPES[theirs.dtype] ?? theirs.dtype;
    const mine = same.find((line) => line.dtype === dtype) ?? same.find((line) => line.dtype === "f16") ?? same[0];
    return mine ? [{ case: caseOf(theirs), ours: mine, theirs, ratio: cost(theirs) / cost(mine) }] : [];
  }).sort((a, b) => order(a.case) - order(b.case) || a.case.localeCompare(b.case) || a.ratio - b.ratio);
}

function order(name: string): number {
  return name.startsWith("bench-") ? 0 : 1;
}

/** Rows of the table, its head first. */
export function peerRows(found: readonly PeerRow[]): string[][] {
  return [
    ["case", "peer", "theirs", "Tensaur", "ratio"],
    ...found.map(({ case: name, ours, theirs, ratio }) => [
      name,
      `${theirs.peer} ${theirs.backend}, ${theirs.dtype}`,
      figure(theirs),
      `${figure(ours)}, ${ours.dtype}`,
      ratio < 1 ? `**${ratio.toFixed(2)}**` : ratio.toFixed(2),
    ]),
  ];
}

function figure({ tok_s, ms_min }: PeerLine): string {
  return tok_s ? `${round(tok_s)} tok/s` : `${round(ms_min)} ms`;
}

/** A line for every row where a peer is ahead, with the reason. */
export function behind(found: readonly PeerRow[]): string[] {
  return found.filter(({ ratio }) => ratio < 1).map(({ case: name, theirs, ratio }) =>
    `${name}: ${theirs.peer} ${theirs.backend} (${theirs.dtype}) is ${(1 / ratio).toFixed(2)} times as fast. ` +
    reasonFor(name, theirs)
  );
}
