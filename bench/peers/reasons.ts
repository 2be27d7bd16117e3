/**
 * Why a peer can be ahead. Each reason rests on figures of the same run, which it names; where a run has none that tell,
 * the row says so.
 */
import type { Ceilings } from "../ceilings.ts";
import { kernelShare, round } from "../goals.ts";
import type { ModelResult } from "../model_bench.ts";
import type { PeerLine, PeerRow } from "./table.ts";

/** What reasons are taken from. */
export interface Facts {
  /** All lines of the run. */
  lines: readonly PeerLine[];
  /** The device's own rates, as the report measured them; a core's on a CPU device. */
  ceilings?: Ceilings;
  /** Cores that the rates are of. */
  cores: number;
  /** Models end to end, as the report measured them. */
  models?: readonly ModelResult[];
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
  { cases: /./, peers: /./, why: busyThreads },
  { cases: /./, peers: /./, why: ofTheLimit },
  { cases: /decode/, peers: /./, why: hostAndKernels },
  { cases: /prefill/, peers: /./, why: ofTheProduct },
  { cases: /prefill/, peers: /./, why: ofTheModel },
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

/** Where CPU time says otherwise: who had more of the threads. */
function busyThreads({ ours, theirs, cpuRatio = 0 }: PeerRow, { cores }: Facts): string | undefined {
  if (cores === 1 || cpuRatio < 1) return undefined; // on a GPU, CPU time is not the work
  const busy = ({ cpu_ms = 0, ms_min }: PeerLine) => round(Math.min(cores, cpu_ms / ms_min));
  return `Tensaur takes less CPU time for the same, but less of it at once: at its fastest it had ${busy(ours)} of ` +
    `${cores} threads busy, the other ${busy(theirs)}.`;
}

/** How far both are from what the device can. */
function ofTheLimit({ ours, theirs }: PeerRow, { ceilings, cores }: Facts): string | undefined {
  if (!ceilings) return undefined;
  const { gflops = 0, gbps = 0 } = theirs, [fma, copy] = [cores * ceilings.fma, cores * ceilings.copy];
  const [rate, limit, unit, what] = gflops / fma > gbps / copy
    ? [gflops, fma, "GFLOP/s", "multiply and add reaches"] as const
    : [gbps, copy, "GB/s", "copy moves"] as const;
  return rate === 0
    ? undefined
    : `It reaches ${round(rate)} ${unit}, Tensaur's kernel ${
      round(rate * theirs.ms_min / ours.ms_min)
    }; one that does nothing but ${what} ${round(limit)} on this device.`;
}

/** What of a token's time is the kernels', as the report found. */
function hostAndKernels(row: PeerRow, facts: Facts): string | undefined {
  const model = modelOf(row, facts), share = model && kernelShare(model);
  return share === undefined
    ? undefined
    : `Of a token of Tensaur's, in ${model!.dtype}, the kernels take ${
      share.toFixed(0)
    } % of the time; the host takes ${round(model!.hostPerToken)} µs for ${
      round(model!.dispatchesPerToken)
    } dispatches.`;
}

/** How fast our product of matrices, most of a prompt, is here. */
function ofTheProduct(_: PeerRow, facts: Facts): string | undefined {
  const { ceilings, cores } = facts, ours = line(facts, "gemm_1024", "tensaur wgpu");
  return ceilings && ours && `Most of a prompt is products of matrices: Tensaur's of two 1024² matrices reaches ` +
      `${round(GEMM_FLOP / ours.ms_min / 1e6)} GFLOP/s in this run, a kernel that does nothing but multiply and add ` +
      `${round(cores * ceilings.fma)} on this device.`;
}

/** The model that the report measured. */
function modelOf({ ours }: PeerRow, { models }: Facts): ModelResult | undefined {
  return models?.find(({ model }) => ours.case.startsWith(`${model}_`));
}

/** What rate of operations a prompt comes to, by the model's size alone. */
function ofTheModel(row: PeerRow, facts: Facts): string | undefined {
  const { ceilings, cores } = facts, model = modelOf(row, facts);
  if (!ceilings || model?.dtype !== "float16") return undefined;
  const rate = ({ tok_s = 0 }: PeerLine) => round(tok_s * model.weightBytes / 1e9); // 2 operations a weight of 2 bytes
  return `At two operations a weight and token it reaches ${rate(row.theirs)} GFLOP/s, Tensaur ${rate(row.ours)}; a ` +
    `kernel that does nothing but multiply and add ${round(cores * ceilings.fma)} on this device.`;
}
