/** The peers' lines as a table with ratios. */
import { round } from "../goals.ts";
import type { Origin } from "../report.ts";
import { type Facts, reasonFor } from "./reasons.ts";

/** One measurement, as the peers' scripts print it. */
export interface PeerLine {
  peer: string;
  backend: string;
  case: string;
  dtype: string;
  /** Milliseconds by the clock; of the fastest. */
  ms_min: number;
  /** Milliseconds of CPU time of all threads, where the script counts them. */
  cpu_ms?: number;
  n: number;
  /** Tokens a second. */
  tok_s?: number;
  /** Rates of an op, where the script gives them. */
  gflops?: number;
  gbps?: number;
  /** Milliseconds of the parts of a start, of Tensaur's own. */
  stages?: Record<string, number>;
  /** What went wrong instead. */
  error?: string;
}

/** What a run beside the peers found. */
export interface PeerReport {
  origin: Origin;
  /** Versions by package. */
  versions: Record<string, string>;
  /** Rounds begun. */
  rounds: number;
  /** Whether each start on the GPU counted only after one that filled the driver's cache. */
  warm?: boolean;
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
  /** How many times as fast we are, by the clock. */
  ratio: number;
  /** How many times the CPU time they take, where both are known. */
  cpuRatio?: number;
}

const DTYPES: Record<string, string> = { fp32: "f32", fp16: "f16" };

/** Cases are named by their length too, and peers that are slow generate fewer tokens. */
export function caseOf(line: PeerLine): string {
  return line.case.replace(/decode\d+$/, "decode");
}

/** The fastest line of each case, peer, backend and dtype, with the least CPU time that any of them took. */
export function fastest(lines: readonly PeerLine[]): PeerLine[] {
  const best = new Map<string, PeerLine>();
  for (const line of lines) {
    if (!(cost(line) > 0)) continue; // failed, or noise was larger than the op
    const key = [line.case, line.peer, line.backend, line.dtype].join("\n"), old = best.get(key);
    const cpu = [line, ...old ? [old] : []].flatMap(({ cpu_ms = 0 }) => cpu_ms > 0 ? [cpu_ms] : []);
    const { cpu_ms: _, ...rest } = old && cost(old) <= cost(line) ? old : line;
    best.set(key, { ...rest, ...cpu.length && { cpu_ms: Math.min(...cpu) } });
  }
  return [...best.values()];
}

/** Time of a case; of a token, where tokens are counted. */
function cost({ tok_s, ms_min }: PeerLine): number {
  return tok_s ? 1000 / tok_s : ms_min;
}

/** The same in CPU time. */
function cpuCost({ tok_s, ms_min, cpu_ms = NaN }: PeerLine): number {
  return tok_s ? 1000 * cpu_ms / (tok_s * ms_min) : cpu_ms;
}

/** Tokens a second of CPU time, so of a core; undefined where one of them is not known. */
export function tokensOfCpu(line: PeerLine): number | undefined {
  const rate = 1000 / cpuCost(line);
  return line.tok_s && Number.isFinite(rate) ? rate : undefined;
}

/** How `ours` does beside `theirs`. */
export function beside(ours: PeerLine, theirs: PeerLine): PeerRow {
  const ratio = cost(theirs) / cost(ours), cpuRatio = cpuCost(theirs) / cpuCost(ours);
  return { case: caseOf(theirs), ours, theirs, ratio, ...Number.isFinite(cpuRatio) && { cpuRatio } };
}

/** Ours beside each of theirs: of the same dtype, else of float16, else of any. */
export function rows(lines: readonly PeerLine[]): PeerRow[] {
  const all = fastest(lines), ours = all.filter(({ peer }) => peer === "tensaur");
  return all.filter(({ peer }) => peer !== "tensaur").flatMap((theirs) => {
    const same = ours.filter((line) => caseOf(line) === caseOf(theirs));
    const dtype = DTYPES[theirs.dtype] ?? theirs.dtype;
    const mine = same.find((line) => line.dtype === dtype) ?? same.find((line) => line.dtype === "f16") ?? same[0];
    return mine ? [beside(mine, theirs)] : [];
  }).sort((a, b) => order(a.case) - order(b.case) || a.case.localeCompare(b.case) || a.ratio - b.ratio);
}

function order(name: string): number {
  return name.startsWith("bench-") ? 0 : 1;
}

/** Rows of the table, its head first. */
export function peerRows(found: readonly PeerRow[]): string[][] {
  const times = (ratio: number | undefined) =>
    ratio === undefined ? "–" : ratio < 1 ? `**${ratio.toFixed(2)}**` : ratio.toFixed(2);
  return [
    ["case", "peer", "theirs", "Tensaur", "ratio", "of CPU time"],
    ...found.map(({ case: name, ours, theirs, ratio, cpuRatio }) => [
      name,
      `${theirs.peer} ${theirs.backend}, ${theirs.dtype}`,
      figure(theirs),
      `${figure(ours)}, ${ours.dtype}`,
      times(ratio),
      times(cpuRatio),
    ]),
  ];
}

/** A line as text. */
export function lineText(line: PeerLine): string {
  return `${line.case}, ${line.peer} ${line.backend}, ${line.dtype}: ${figure(line)}`;
}

function figure({ tok_s, ms_min }: PeerLine): string {
  return tok_s ? `${round(tok_s)} tok/s` : `${round(ms_min)} ms`;
}

/** A line for every row where a peer is ahead by the clock, with the reason. */
export function behind(found: readonly PeerRow[], facts: Facts): string[] {
  return found.filter(({ ratio }) => ratio < 1).map((row) => {
    const { case: name, theirs, ratio, cpuRatio } = row;
    const cpu = cpuRatio === undefined || cpuRatio < 1 ? "" : ` (in CPU time Tensaur, ${cpuRatio.toFixed(2)} times)`;
    return `${name}: ${theirs.peer} ${theirs.backend} (${theirs.dtype}) is ${
      (1 / ratio).toFixed(2)
    } times as fast${cpu}. ` +
      reasonFor(row, facts);
  });
}
