/** Why a peer can be ahead; the first that fits is named in the report. */
import type { PeerLine } from "./table.ts";

/** A reason, and where it holds. */
interface Reason {
  cases: RegExp;
  peers: RegExp;
  why: string;
}

const REASONS: readonly Reason[] = [
  {
    cases: /startup/,
    peers: / (cpu|node-cpu|node-llama-cpp-cpu)$/,
    why: "It runs machine code that was compiled before; here the driver reads or compiles its kernels at start.",
  },
  {
    cases: /startup/,
    peers: /./,
    why: "It starts with fewer kernels, or kernels that the driver compiles faster.",
  },
  {
    cases: /./,
    peers: / (cpu|node-cpu|node-llama-cpp-cpu|web-wasm|wasm)$/,
    why:
      "It runs on the CPU itself, with the vector width and the caches that the CPU has. On this device WebGPU is a " +
      "program on the same CPU, whose loads go lane by lane, and which gives each kernel to its threads anew.",
  },
  {
    cases: /q4/,
    peers: /q4a8/,
    why: "It rounds the activations to 8 bits and multiplies integers; ours stay float32.",
  },
  {
    cases: /gemv/,
    peers: /./,
    why: "One row is bound by how fast weights are read; its loop needs fewer loads a weight on this driver.",
  },
  {
    cases: /norm|softmax/,
    peers: /./,
    why: "Each is bound by memory; what its own kernel makes of the driver's loads decides.",
  },
];

const UNKNOWN = "The reason is not known yet.";

/** The reason why `line`, of a case named `name`, may be faster than ours. */
export function reasonFor(
  name: string,
  { peer, backend, dtype }: Pick<PeerLine, "peer" | "backend" | "dtype">,
): string {
  return REASONS.find(({ cases, peers }) => cases.test(name) && (peers.test(`${peer} ${backend}`) || peers.test(dtype)))
    ?.why ?? UNKNOWN;
}
