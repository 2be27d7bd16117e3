/** Who does what beside whom: cases from the smallest to the largest, everyone at the same case before the next. */
import { denoRun, type RunOptions } from "../process.ts";
import { exists, PEERS } from "./cache.ts";

/** One process. */
export interface Turn {
  /** The case, and who runs it. */
  name: string;
  /** Most rounds that it takes part in. */
  rounds: number;
  /** Milliseconds after which it counts as hung. */
  limit: number;
  /** Runs it; returns what it prints. */
  run: (options: RunOptions) => Promise<string>;
  /** Starts it only, so that the driver's cache has its shaders: what is measured is the start of all later times. */
  warm?: (options: RunOptions) => Promise<string>;
  /** Whether its shaders change with the commit, not with the version of a package. */
  ours?: true;
}

/** What there is to run. */
export interface PlanOptions {
  /** The folder of the model. */
  model: string;
  /** Once each, short, and without the cases that no goal names. */
  quick: boolean;
  /** Most rounds. */
  rounds: number;
}

const OURS = new URL("./ours.ts", import.meta.url), MODEL = "bench-30m", PROMPT = "256";
// ms; idle, they need a tenth, a fifth and 30 s, of which llama.cpp's first start of all takes a minute more
const OP_LIMIT = 60_000, MODEL_LIMIT = 100_000, VULKAN_LIMIT = 240_000;

/** Cases by their size; those at the end are left out where it must be quick. */
const OPS: readonly [cases: string, quick: boolean, packages: readonly string[]][] = [
  ["q4_gemv_4096", true, ["onnxruntime"]],
  ["nf4_gemv_4096", true, ["onnxruntime"]],
  ["rmsnorm_1024x2048|softmax_1024x2048", true, ["onnxruntime", "jax-js"]],
  ["attn_decode_mha|attn_decode_gqa", true, ["onnxruntime", "jax-js"]],
  ["gemv_4096", true, ["onnxruntime", "jax-js", "onnxruntime cpu"]],
  ["gemm_1024", true, ["jax-js", "onnxruntime", "onnxruntime cpu"]],
  ["attn_prefill_mha", true, ["onnxruntime", "jax-js"]],
  ["attn_prefill_gqa", false, ["onnxruntime", "jax-js"]],
  ["gemm_512", false, ["onnxruntime", "jax-js"]],
  ["layernorm_1024x2048", false, ["onnxruntime", "jax-js"]],
];

const SCRIPTS: Record<string, readonly [script: string, backend: string]> = {
  onnxruntime: ["ort_ops.mjs", "node-webgpu"],
  "onnxruntime cpu": ["ort_ops.mjs", "node-cpu"],
  "jax-js": ["jax_ops.mjs", "webgpu"],
};

/** Every turn of a round, in its order. */
export function plan({ model, quick, rounds }: PlanOptions): Turn[] {
  const passes = quick ? "1" : "2", short = ["1", PROMPT, "16"], long = [passes, PROMPT, quick ? "32" : "64"];
  const start = ["0", PROMPT, "0"];
  const milliseconds = quick ? "300" : "800";
  const ours = (name: string, limit: number, ...args: string[]): Turn => ({
    name: `${name}: tensaur`,
    rounds,
    limit,
    run: (options) => denoRun(OURS, args, options),
    ours: true,
  });
  const theirs = (name: string, limit: number, script: string, ...args: string[]): Turn => ({
    name,
    rounds,
    limit,
    run: async (options) => {
      const env = {
        GGML_VK_VISIBLE_DEVICES: "0", // else it takes no device that is a program on the CPU
        BUDGET_MS: milliseconds,
        THREADS: `${navigator.hardwareConcurrency}`,
      };
      if (!await exists(`${PEERS}/${script}`)) throw new Error("it is not installed: deno task bench peers-setup");
      return await denoRun(`${PEERS}/${script}`, args, { ...options, cwd: PEERS, env });
    },
  });
  const llm = (who: string, limit: number, script: string, ...args: string[]) =>
    theirs(`${MODEL}: ${who}`, limit, script, ...args);
  const gpu = (who: string, limit: number, script: string, ...args: string[]): Turn => ({
    ...llm(who, limit, script, ...args, ...short),
    warm: llm(who, limit, script, ...args, ...start).run,
  });
  const gguf = [`${MODEL}-f16.gguf`, MODEL, "f16"];
  return [
    ...["float16", "float32", "q4_0"].map((dtype): Turn => ({
      ...ours(`${MODEL} ${dtype}`, MODEL_LIMIT, "llm", model, dtype, ...long),
      warm: (options) => denoRun(OURS, ["llm", model, dtype, ...start], options),
    })),
    gpu("llama.cpp vulkan", VULKAN_LIMIT, "nlc_llm.mjs", "vulkan", ...gguf),
    gpu("onnxruntime webgpu", MODEL_LIMIT, "ort_llm.mjs", "node-webgpu", `${MODEL}-ort-fp32-webgpu`, MODEL, "f32"),
    gpu("transformers.js webgpu", MODEL_LIMIT, "tjs_llm.mjs", "llm", "webgpu", "fp32", MODEL),
    llm("transformers.js cpu fp32", MODEL_LIMIT, "tjs_llm.mjs", "llm", "cpu", "fp32", MODEL, ...long),
    llm("transformers.js cpu q4", MODEL_LIMIT, "tjs_llm.mjs", "llm", "cpu", "q4", MODEL, ...long),
    llm("llama.cpp cpu", MODEL_LIMIT, "nlc_llm.mjs", "cpu", ...gguf, ...long),
    ...OPS.filter(([, short]) => short || !quick).flatMap(([cases, , packages]) => [
      ours(cases, OP_LIMIT, "ops", milliseconds, cases),
      ...packages.map((who) => {
        const [script, backend] = SCRIPTS[who]!;
        return theirs(`${cases}: ${who}`, OP_LIMIT, script, backend, `^(${cases})$`);
      }),
    ]),
  ];
}
