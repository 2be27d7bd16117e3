/**
 * The peers beside Tensaur in one run: everyone has a turn at the models and at the ops, then all again, as often as the
 * time allows; the fastest of the turns counts. Peers that are not installed are named and left out.
 */
import { denoRun, jsonLines, ProcessError } from "../process.ts";
import type { Origin } from "../report.ts";
import { benchModels, exists, PEERS } from "./cache.ts";
import { fastest, type PeerLine, type PeerReport } from "./table.ts";

/** How to run. */
export interface PeerOptions {
  /** Milliseconds for all of it. */
  budget: number;
  /** Most rounds. Default 3. */
  rounds?: number;
  /** Limits to turns whose name holds one of these. */
  names?: readonly string[];
  /** Called before each turn. */
  say: (line: string) => void;
}

interface Turn {
  name: string;
  run: (limit: number) => Promise<string>;
}

const CASE_MS = "800", LIMIT = 150_000, LEAST = 5000, WEBGPU_TOKENS = "16", CPU_TOKENS = "64";
const OURS = new URL("./ours.ts", import.meta.url);
const PACKAGES = ["@huggingface/transformers", "@jax-js/jax", "node-llama-cpp", "onnxruntime-node", "onnxruntime-web"];

function theirs(name: string, script: string, ...args: string[]): Turn {
  const env = { GGML_VK_VISIBLE_DEVICES: "0", BUDGET_MS: CASE_MS, THREADS: `${navigator.hardwareConcurrency}` };
  const run = async (limit: number) => {
    if (!await exists(`${PEERS}/${script}`)) throw new Error("it is not installed: deno task bench peers-setup");
    return await denoRun(`${PEERS}/${script}`, args, { cwd: PEERS, env, limit });
  };
  return { name, run };
}

/** Models first, where time is short; last the one whose shaders take a minute to compile at each start. */
function turns(model: string, path: string): Turn[] {
  const short = ["1", "256", WEBGPU_TOKENS], long = ["2", "256", CPU_TOKENS];
  return [
    ...["float16", "float32"].map((dtype): Turn => ({
      name: `tensaur ${model} ${dtype}`,
      run: (limit) => denoRun(OURS, ["llm", path, dtype, ...long], { limit }),
    })),
    theirs("onnxruntime webgpu llm", "ort_llm.mjs", "node-webgpu", `${model}-ort-fp32-webgpu`, model, "f32", ...short),
    theirs("transformers.js webgpu llm", "tjs_llm.mjs", "llm", "webgpu", "fp32", model, ...short),
    theirs("transformers.js cpu llm", "tjs_llm.mjs", "llm", "cpu", "fp32", model, ...long),
    theirs("transformers.js cpu q4 llm", "tjs_llm.mjs", "llm", "cpu", "q4", model, ...long),
    theirs("llama.cpp cpu llm", "nlc_llm.mjs", "cpu", `${model}-f16.gguf`, model, "f16", ...long),
    { name: "tensaur ops", run: (limit) => denoRun(OURS, ["ops", CASE_MS], { limit }) },
    theirs("onnxruntime webgpu ops", "ort_ops.mjs", "node-webgpu", "gemm|gemv|attn|norm|softmax"),
    theirs("jax-js webgpu ops", "jax_ops.mjs", "webgpu"),
    theirs("llama.cpp vulkan llm", "nlc_llm.mjs", "vulkan", `${model}-f16.gguf`, model, "f16", ...short),
  ];
}

/** Runs everyone in turn. */
export async function runPeers(origin: Origin, options: PeerOptions): Promise<PeerReport> {
  const { budget, rounds = 3, names = [], say } = options, start = performance.now();
  const report: PeerReport = { origin, versions: await versions(), rounds: 0, lines: [], missing: [] };
  const all = turns("bench-30m", `${await benchModels()}/bench-30m`)
    .filter(({ name }) => names.length === 0 || names.some((part) => name.includes(part)));
  const failed = new Set<string>();
  while (report.rounds < rounds) {
    const begin = performance.now();
    for (const { name, run } of all.filter(({ name }) => !failed.has(name))) {
      say(`peers, round ${report.rounds + 1}: ${name}`);
      try {
        const left = start + budget - performance.now();
        if (left < LEAST) throw new Error("no time was left");
        report.lines.push(...jsonLines<PeerLine>(await run(Math.min(LIMIT, left))));
      } catch (error) {
        failed.add(name);
        if (error instanceof ProcessError) report.lines.push(...jsonLines<PeerLine>(error.stdout));
        report.missing.push(`${name}: ${(error as Error).message}`);
        say(`  ${report.missing.at(-1)}`);
      }
    }
    report.rounds++;
    const now = performance.now();
    if (now + (now - begin) > start + budget) break; // another round takes as long again
  }
  for (const { peer, backend, case: name, error } of report.lines) {
    if (error) report.missing.push(`${peer} ${backend}, ${name}: ${error}`);
  }
  report.missing = [...new Set(report.missing)];
  report.lines = fastest(report.lines);
  return report;
}

async function versions(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of PACKAGES) {
    const path = `${PEERS}/node_modules/${name}/package.json`;
    if (await exists(path)) found[name] = JSON.parse(await Deno.readTextFile(path)).version;
  }
  return found;
}
