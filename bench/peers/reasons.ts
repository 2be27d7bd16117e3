/**
 * Why a peer can be ahead. Each reason rests on figures of the same run, which it names; where a run has none that tell,
 * the row says so.
 */
import type { Ceilings } from "../ceilings.ts";
import { round } from "../goals.ts";
import type { PeerLine, PeerRow } from "./table.ts";

/** What reasons are taken from. */
export interface Facts {
  /** All lines of the run. */
  lines: readonly PeerLine[];
  /** The device's own rates, as the report measured them; a core's on a CPU device. */
  ceilings?: Ceilings;
  /** Cores that the rates are of. */
  cores: number;
}

interface Reason {
  cases: RegExp;
  peers: RegExp;
  /** Undefined where the run does not show it. */
  why: (row: PeerRow, facts: Facts) => string | undefined;
}

const CPU = / (cpu|node-cpu|node-llama-cpp-cpu|web-wasm|wasm)$/;
const GEMM_FLOP = 2 * 1024 ** 3, GEMV_BYTES = 4 * 4096 ** 2;

const REASONS: readonly Reason[] = [
  { cases: /startup/, peers: /./, why: startup },
  { cases: /decode|gemv/, peers: / (cpu|node-cpu)$/, why: fewerBits },
  { cases: /decode|gemv/, peers: CPU, why: (_, facts) => cpuReads(facts) },
  { cases: /./, peers: CPU, why: (_, facts) => cpuMultiplies(facts) },
  { cases: /q4/, peers: /q4a8/, why: roundedActivations },
];

const UNKNOWN = "This run has no figure that tells why.";

/** The reason why a peer is ahead in `row`, as far as `facts` show it. */
export function reasonFor(row: PeerRow, facts: Facts): string {
  const { peer, backend, dtype } = row.theirs,
    fits = (peers: RegExp) => peers.test(`${peer} ${backend}`) || peers.test(dtype);
  for (const { cases, peers, why } of REASONS) {
    const text = cases.test(row.case) && fits(peers) ? why(row, facts) : undefined;
    if (text) return text;
  }
  return UNKNOWN;
}

/** A line of the run, by case and the start of its peer and backend. */
function line({ lines }: Facts, name: string, who: string): PeerLine | undefined {
  return lines.find((line) => line.case === name && line.dtype === "f32" && `${line.peer} ${line.backend}` === who);
}

/** The parts of our own start, and what of theirs is known. */
function startup({ ours, theirs }: PeerRow, { lines }: Facts): string | undefined {
  const { stages } = ours;
  if (!stages) return undefined;
  const parts = Object.entries(stages).map(([name, ms]) => `${name} ${ms.toFixed(0)} ms`).join(", ");
  const prompt = lines.find((line) =>
    line.peer === theirs.peer && line.backend === theirs.backend && line.dtype === theirs.dtype &&
    /prefill/.test(line.case)
  );
  const rest = prompt ? ` Of theirs, the prompt takes ${round(prompt.ms_min)} ms once it is warm.` : "";
  return `The parts of Tensaur's: ${parts}; load has the kernels that the driver compiles or reads from its cache.${rest}`;
}

/** Their weights have fewer bits than ours of that row. */
function fewerBits({ ours, theirs }: PeerRow): string | undefined {
  const bits = (dtype: string) => /q4|int4|nf4/.test(dtype) ? 4 : /16/.test(dtype) ? 16 : 32;
  const [a, b] = [bits(ours.dtype), bits(theirs.dtype)];
  return b < a ? `Its weights have ${b} bits, those of Tensaur's row ${a}.` : undefined;
}

/** How fast the CPU itself reads weights, beside what the device can. */
function cpuReads(facts: Facts): string | undefined {
  const { ceilings, cores } = facts, theirs = line(facts, "gemv_4096", "onnxruntime node-cpu");
  const ours = line(facts, "gemv_4096", "tensaur wgpu");
  if (!ceilings || !theirs || !ours) return undefined;
  const rate = ({ ms_min }: PeerLine) => GEMV_BYTES / ms_min / 1e6;
  return `It runs on the CPU itself: there onnxruntime's product of a row and a 4096² matrix reads ${
    round(rate(theirs))
  } ` +
    `GB/s in this run. Through WebGPU ours reads ${round(rate(ours))}, and a kernel that does nothing but copy moves ` +
    `${round(cores * ceilings.copy)} on this device.`;
}

/** How fast the CPU itself multiplies, beside what the device can. */
function cpuMultiplies(facts: Facts): string | undefined {
  const { ceilings, cores } = facts, theirs = line(facts, "gemm_1024", "onnxruntime node-cpu");
  const ours = line(facts, "gemm_1024", "tensaur wgpu");
  if (!ceilings || !theirs || !ours) return undefined;
  const rate = ({ ms_min }: PeerLine) => GEMM_FLOP / ms_min / 1e6;
  return `It runs on the CPU itself: there onnxruntime's product of two 1024² matrices reaches ${
    round(rate(theirs))
  } ` +
    `GFLOP/s in this run. Through WebGPU ours reaches ${
      round(rate(ours))
    }, and a kernel that does nothing but multiply ` +
    `and add ${round(cores * ceilings.fma)} on this device.`;
}

/** What rounding the activations to 8 bits brings them, by their own two rows. */
function roundedActivations({ theirs }: PeerRow, { lines }: Facts): string | undefined {
  const exact = lines.find((line) =>
    line.case === theirs.case && line.peer === theirs.peer && line.backend === theirs.backend && line.dtype === "q4f32"
  );
  return exact && `It rounds the activations to 8 bits and multiplies integers, which makes it ` +
      `${
        round(exact.ms_min / theirs.ms_min)
      } times as fast as its own kernel for float32 in this run; ours stay float32.`;
}
