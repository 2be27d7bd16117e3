/** The ratios to reach beside the peers: those of the slowest of the rows that a goal names. */
import { round } from "../goals.ts";
import { beside, caseOf, fastest, type PeerLine, type PeerRow } from "./table.ts";

/** A ratio beside its goal. */
export interface PeerReached {
  work: string;
  goal: number;
  /** The row with the least ratio; undefined where no such peer was measured. */
  row?: PeerRow;
}

interface PeerGoal {
  work: string;
  case: RegExp;
  /** Of the peer, its backend and its dtype. */
  peers: RegExp;
  goal: number;
  /** Our dtype: the fastest of that one counts. */
  ours?: string;
}

const JS_WEBGPU = /^(onnxruntime|transformers\.js|jax-js) .*webgpu/;
const VULKAN = /^llama\.cpp .*vulkan/;

/** What a user would pick instead, each in its fastest form. */
const GOALS: readonly PeerGoal[] = [
  { work: "decode, beside JavaScript's WebGPU", case: /bench-30m_decode$/, peers: JS_WEBGPU, goal: 15, ours: "f16" },
  { work: "prompt, beside JavaScript's WebGPU", case: /bench-30m_prefill/, peers: JS_WEBGPU, goal: 2, ours: "f16" },
  { work: "decode, beside llama.cpp's Vulkan", case: /bench-30m_decode$/, peers: VULKAN, goal: 4, ours: "f16" },
  { work: "prompt, beside llama.cpp's Vulkan", case: /bench-30m_prefill/, peers: VULKAN, goal: 2, ours: "f16" },
  { work: "GEMM f32 1024, beside jax-js", case: /^gemm_1024$/, peers: /^jax-js .*f32$/, goal: 3, ours: "f32" },
  { work: "GEMV q4 4096², beside MatMulNBits", case: /^q4_gemv/, peers: /^onnxruntime .*webgpu q4f32$/, goal: 8 },
  { work: "GEMV nf4 4096², beside MatMulBnb4", case: /^nf4_gemv/, peers: /^onnxruntime .*webgpu/, goal: 4 },
  { work: "attention, prompt of 1024", case: /^attn_prefill_mha/, peers: JS_WEBGPU, goal: 1.2 },
  { work: "attention, one token after 4095", case: /^attn_decode_mha/, peers: JS_WEBGPU, goal: 1.5 },
  { work: "the same, 16 heads on 4", case: /^attn_decode_gqa/, peers: JS_WEBGPU, goal: 2 },
  { work: "GEMV f32 4096²", case: /^gemv_4096/, peers: JS_WEBGPU, goal: 1 },
  { work: "RMS norm, softmax 1024 × 2048", case: /^(rmsnorm|softmax)/, peers: JS_WEBGPU, goal: 1 },
];

/** Every goal with the row that is nearest to failing it. */
export function peerReached(lines: readonly PeerLine[]): PeerReached[] {
  const all = fastest(lines);
  return GOALS.map(({ work, case: cases, peers, goal, ours: dtype }) => {
    const fits = (line: PeerLine) => cases.test(caseOf(line));
    const mine = all.filter((line) => line.peer === "tensaur" && fits(line) && (!dtype || line.dtype === dtype));
    const theirs = all.filter((line) => fits(line) && peers.test(`${line.peer} ${line.backend} ${line.dtype}`));
    const found = theirs.flatMap((line) =>
      mine.filter((own) => caseOf(own) === caseOf(line)).map((own) => beside(own, line))
    );
    const [row] = found.sort((a, b) => a.ratio - b.ratio);
    return { work, goal, ...row && { row } };
  });
}

/** Rows of a table of the goals, its head first. */
export function peerGoalRows(reached: readonly PeerReached[]): string[][] {
  const times = (ratio: number | undefined) => ratio === undefined ? "–" : `${round(ratio)} ×`;
  return [
    ["work", "goal", "reached", "of CPU time", "beside"],
    ...reached.map(({ work, goal, row }) => [
      work,
      `${goal} ×`,
      row ? `${times(row.ratio)}${row.ratio < goal ? " (missed)" : ""}` : "not measured",
      times(row?.cpuRatio),
      row ? `${row.theirs.peer} ${row.theirs.backend}, ${row.theirs.dtype}; Tensaur ${row.ours.dtype}` : "–",
    ]),
  ];
}
