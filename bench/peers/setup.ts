/** Installs the peers and makes what they run, in the cache folder. What is there already is kept. */
import { output } from "../process.ts";
import { benchModels, exists, PEERS, PEERS_SOURCE } from "./cache.ts";

const LONG = 1_800_000; // ms
const PYTHON_PACKAGES = ["onnx", "onnxscript", "onnxruntime-genai"];
const BUILDS = [["fp32", "webgpu"], ["fp16", "webgpu"], ["int4", "webgpu"], ["int4", "cpu"]] as const;
const MODEL = "bench-30m";

/** The one script of a model that counts no CPU time, which tells more than the clock on a busy machine. */
const CPU_TIME = [
  ["argv, exit", "argv, cpuNow, exit"],
  ["const at = [], t =", "const at = [], cpu = [cpuNow()], t ="],
  ["at.push(performance.now());", "at.push(performance.now()), cpu.push(cpuNow());"],
  ["at.length - 1];", "at.length - 1, cpu[1] - cpu[0], cpu.at(-1) - cpu[1]];"],
  ["{ tokens: +P });", "{ tokens: +P }, Math.min(...rs.map((r) => r[3])));"],
  ["{ tokens: rs[0][2] });", "{ tokens: rs[0][2] }, Math.min(...rs.map((r) => r[4])));"],
] as const;

/** Makes everything that is missing. Python must have torch, transformers, safetensors and gguf. */
export async function setupPeers(say: (line: string) => void): Promise<void> {
  if (!await exists(`${PEERS_SOURCE}/lib.mjs`)) {
    throw new Error("The peers' scripts must be beside the repository, or where TENSAUR_PEERS_SOURCE says");
  }
  await Deno.mkdir(PEERS, { recursive: true });
  for await (const { name, isFile } of Deno.readDir(PEERS_SOURCE)) {
    if (!isFile || !/\.(mjs|py|json)$/.test(name)) continue;
    await Deno.remove(`${PEERS}/${name}`).catch(() => {}); // it may be read-only, as a copy of its source would be
    await Deno.writeFile(`${PEERS}/${name}`, await Deno.readFile(`${PEERS_SOURCE}/${name}`));
  }
  await edit("nlc_llm.mjs", CPU_TIME);
  const run = async (what: string, made: string, command: string, args: readonly string[]) => {
    if (await exists(`${PEERS}/${made}`)) return;
    say(what);
    await output(command, args, { cwd: PEERS, limit: LONG });
  };
  const python = `${PEERS}/python/bin/python`, models = `models/${MODEL}`;
  await run("npm packages", "node_modules/.package-lock.json", "npm", ["install", "--ignore-scripts", "--no-audit"]);
  await run("Python environment", "python", "python3", ["-m", "venv", "--system-site-packages", "python"]);
  await run("Python packages", "python/.done", python, ["-m", "pip", "install", "--quiet", ...PYTHON_PACKAGES]);
  await Deno.writeTextFile(`${PEERS}/python/.done`, "");
  await benchModels();
  await run("bench-bert", "models/bench-bert", python, ["make_bench_models.py", "models", "bench-bert"]);
  await run("op graphs", "ops/cases.json", python, ["make_op_models.py", "ops"]);
  const bnb4 = decodeURIComponent(new URL("./make_bnb4_model.py", import.meta.url).pathname);
  await run("op graph of MatMulBnb4", "ops/nf4_gemv_4096_nf4.r5.onnx", python, [bnb4, "ops"]);
  for (const [dtype, target] of BUILDS) {
    const out = `${models}-ort-${dtype}-${target}`, builder = ["-m", "onnxruntime_genai.models.builder"];
    const options = ["-p", dtype, "-e", target, "-c", "builder_cache", "--extra_options", "int4_accuracy_level=4"];
    await run(`${MODEL} for onnxruntime, ${dtype} ${target}`, out, python, [
      ...builder,
      "-i",
      models,
      "-o",
      out,
      ...options,
    ]);
  }
  await edit("make_tjs_models.py", [[`("${MODEL}", "bench-120m")`, `("${MODEL}",)`]]); // the other is not measured here
  await run(`${MODEL} for transformers.js`, `models/tjs/${MODEL}`, python, ["make_tjs_models.py", "models"]);
  await run(`${MODEL} for llama.cpp`, `${models}-q4_0.gguf`, python, ["make_gguf.py", models]);
  say(`the peers are in ${PEERS}`);
}

/** Changes the copy of a script; throws where it has no such place. */
async function edit(name: string, changes: readonly (readonly [from: string, to: string])[]): Promise<void> {
  let text = await Deno.readTextFile(`${PEERS}/${name}`);
  for (const [from, to] of changes) {
    if (!text.includes(from)) throw new Error(`${name} must hold ${JSON.stringify(from)}, which it does not`);
    text = text.replace(from, () => to);
  }
  await Deno.writeTextFile(`${PEERS}/${name}`, text);
}
