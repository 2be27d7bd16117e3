/**
 * `tensaur explain`: what a model is and needs, before anything of it is loaded.
 *
 * @module
 */
import { Command, Option } from "commander";
import { GpuError } from "../errors.ts";
import { type Device, formatBytes } from "../gpu/mod.ts";
import { resolveAttention } from "../models/attention_implementation.ts";
import { explainModel } from "../models/explain_model.ts";
import { matrixKernels } from "../models/matrix_kernels.ts";
import {
  type ModelPlan,
  type ModelReport,
  planModel,
  type QuantizationError,
  quantizationErrors,
} from "../models/mod.ts";
import { BitsAndBytesConfig } from "../quantization/mod.ts";
import {
  countParameters,
  estimateMemory,
  groupWeights,
  type MemoryEstimate,
  objections,
  patternOf,
} from "./estimate.ts";
import { Interrupt } from "./interrupt.ts";
import {
  addDeviceOptions,
  addModelOptions,
  addOutputOptions,
  type DeviceFlags,
  type ModelFlags,
  type UiFlags,
  whole,
} from "./options.ts";
import { findModel, modelName, openFlagged } from "./session.ts";
import { textTable } from "./table.ts";
import { Ui } from "./ui.ts";

interface ExplainFlags extends ModelFlags, DeviceFlags, UiFlags {
  context?: number;
  device: boolean;
  quantize?: keyof typeof QUANTIZED;
}

/** What `--quantize` takes. */
const QUANTIZED = {
  int8: { loadIn8bit: true },
  nf4: { loadIn4bit: true, bnb4bitQuantType: "nf4" },
  fp4: { loadIn4bit: true, bnb4bitQuantType: "fp4" },
} as const;

const PROMPT = 512; // tokens of the prompt whose kernels are told

/** What is explained. */
interface Subject {
  name: string;
  plan: ModelPlan;
  memory: MemoryEstimate;
  parameters: number;
  /** What quantizing changes in each layer, where that was asked for and there is a device to find out. */
  errors?: QuantizationError[];
}

const EXAMPLES = `
Examples:
  tensaur explain
  tensaur explain owner/name --context 8192
  tensaur explain ./model --dtype float16 --memory-budget 4GiB
  tensaur explain ./model --json --no-device
  tensaur explain ./model --quantize nf4

Reads config.json and the headers of the weights only; with --quantize and a device, each layer is quantized once to tell
its error. From the hub, the model is downloaded first.`;

/** The command. */
export function explainCommand(): Command {
  const command = new Command("explain")
    .description("show a model's layers, dtypes, bytes, kernels and memory before loading it")
    .argument("[model]", "as --model")
    .option("-c, --context <tokens>", "estimate memory for so many tokens (default: the model's positions)", whole(1))
    .addOption(
      new Option("--quantize <scheme>", "explain it as quantized while loading").choices(Object.keys(QUANTIZED)),
    )
    .option("--no-device", "do not look at the GPU")
    .addHelpText("after", EXAMPLES);
  addOutputOptions(addDeviceOptions(addModelOptions(command)));
  return command.action(run);
}

async function run(argument: string | undefined, given: ExplainFlags): Promise<void> {
  const flags = { ...given, model: argument ?? given.model };
  const ui = new Ui(flags);
  using interrupt = new Interrupt();
  const path = await findModel(flags, ui, interrupt.signal);
  const quantizationConfig = flags.quantize && new BitsAndBytesConfig(QUANTIZED[flags.quantize]);
  const options = { dtype: flags.dtype, quantizationConfig, signal: interrupt.signal };
  const plan = await planModel(path, options);
  const memory = await estimateMemory(plan, flags.context ?? plan.sizes.maxPositionEmbeddings);
  const subject: Subject = { name: modelName(flags), plan, memory, parameters: await countParameters(path, plan) };
  await using device = flags.device ? await deviceOrNote(flags, ui) : undefined;
  if (device && quantizationConfig) subject.errors = await quantizationErrors(path, { ...options, device });
  if (flags.json) ui.printJson(asJson(subject, device));
  else ui.print(`${asText(subject, device)}\n`);
}

/** A missing GPU is no reason not to explain the model. */
async function deviceOrNote(flags: ExplainFlags, ui: Ui): Promise<Device | undefined> {
  try {
    return await openFlagged(flags, ui);
  } catch (error) {
    if (!(error instanceof GpuError)) throw error;
    ui.warn(error.message);
    return undefined;
  }
}

function asJson({ name, plan, memory, parameters, errors }: Subject, device: Device | undefined) {
  const { path, modelType, task, dtype, byteLength, cacheBytesPerToken, sizes } = plan;
  const { hiddenSize, heads, kvHeads, headDim, vocabSize, maxPositionEmbeddings, attention } = sizes;
  const report = device?.explain(), against = device && objections(memory, device);
  return {
    model: name,
    path,
    modelType,
    architectures: plan.json.architectures,
    task,
    dtype,
    parameters,
    layers: attention.length,
    sizes: { hiddenSize, heads, kvHeads, headDim, vocabSize, maxPositionEmbeddings },
    weights: groupWeights(plan, errors),
    errors,
    byteLength,
    cacheBytesPerToken,
    memory,
    device: report && {
      adapter: report.adapter.description,
      provider: report.provider,
      fits: against?.length === 0,
      objections: against,
      kernels: report.rungs,
      matrices: device && kernelsOf(plan, device),
      attention: device && attentionOf(plan, device).layers.map(({ layer, prompt, step }) => ({ layer, prompt, step })),
    },
  };
}

function asText(subject: Subject, device: Device | undefined): string {
  const { plan, memory } = subject;
  return [
    summary(subject),
    weightTable(subject),
    memoryTable(plan, memory),
    ...device ? [deviceText(memory, device), `${attentionOf(plan, device)}`, kernelsText(plan, device)] : [],
  ].join("\n\n");
}

/** What attends in each layer, as `model.explain()` would say. */
function attentionOf({ json, dtype, sizes }: ModelPlan, device: Device): ModelReport {
  return explainModel({ sizes, dtype, attnImplementation: resolveAttention(json, {}) }, device);
}

/** What multiplies by each kind of matrix, or gathers its rows. */
function kernelsOf(plan: ModelPlan, device: Device) {
  const tokens = Math.min(PROMPT, plan.sizes.maxPositionEmbeddings);
  const found = plan.weights.map((weight) => ({
    name: patternOf(weight.name),
    ...matrixKernels(weight, device, tokens),
  }));
  const distinct = new Map(
    found.map(({ name, prompt, step }) => [`${name} ${prompt} ${step}`, { name, prompt, step }]),
  );
  return [...distinct.values()].filter(({ prompt }) => prompt !== undefined);
}

/** Matrices that the same kernels multiply stand in one block. */
function kernelsText(plan: ModelPlan, device: Device): string {
  const decodes = plan.task === "causal-lm";
  const alike = Map.groupBy(
    kernelsOf(plan, device),
    ({ prompt, step }) => decodes ? `    prompt  ${prompt}\n    token   ${step}` : `    text    ${prompt}`,
  );
  const blocks = [...alike].map(([text, of]) => `  ${of.map(({ name }) => shorten(name)).join("\n  ")}\n${text}`);
  return ["matrices", ...blocks].join("\n");
}

function summary({ name, plan, parameters }: Subject): string {
  const { sizes, json, modelType, task, dtype } = plan;
  const architecture = [json.architectures ?? []].flat().join(", ");
  const windows = [...new Set(sizes.attention.map(({ window }) => window))].map((w) => w ? `the last ${w}` : "all");
  return [
    name,
    `  family      ${modelType}${architecture && ` (${architecture})`}, used for ${task}`,
    `  parameters  ${(parameters / 1e6).toFixed(2)} million, matrices kept as ${dtype}`,
    `  layers      ${sizes.attention.length}; attention sees ${windows.join(" or ")} tokens`,
    `  heads       ${sizes.heads} of ${sizes.headDim}, ${sizes.kvHeads} for keys and values`,
    `  widths      hidden ${sizes.hiddenSize}, vocabulary ${sizes.vocabSize}, positions ${sizes.maxPositionEmbeddings}`,
  ].join("\n");
}

function weightTable({ plan, errors }: Subject): string {
  const rows = groupWeights(plan, errors).map(({ name, count, shape, stored, kept, byteLength, relativeError }) => [
    shorten(name),
    `[${shape.join(", ")}]`,
    `${stored} → ${kept}`,
    `× ${count}`,
    formatBytes(byteLength),
    ...errors ? [relativeError ? percents(relativeError) : ""] : [],
  ]);
  const head = ["weight", "shape", "dtype", "count", "bytes", ...errors ? ["RMS error"] : []];
  return textTable([head, ...rows], [0, 1, 2]);
}

/** "7.1–7.3 %" */
function percents(numbers: readonly number[]): string {
  return `${[...new Set(numbers.map((n) => (100 * n).toFixed(2)))].join("–")} %`;
}

/** "a.b.q_proj + a.b.k_proj" → "a.b.{q_proj, k_proj}": the prefix once. */
function shorten(name: string): string {
  const parts = name.split(" + "), [first = ""] = parts;
  const prefix = first.slice(0, first.lastIndexOf(".") + 1);
  if (parts.length === 1 || !parts.every((part) => part.startsWith(prefix))) return name;
  return `${prefix}{${parts.map((part) => part.slice(prefix.length)).join(", ")}}`;
}

function memoryTable({ cacheBytesPerToken }: ModelPlan, memory: MemoryEstimate): string {
  const { context, weights, loading, cache, working, total } = memory;
  return [
    `memory for one sequence of ${context} tokens`,
    `  weights          ${formatBytes(weights)}, while they are loaded ${formatBytes(loading)}`,
    `  keys and values  ${formatBytes(cache)} (${formatBytes(cacheBytesPerToken)} a token)`,
    `  working memory   ${formatBytes(working)}, about`,
    `  total            ${formatBytes(total)}, about`,
  ].join("\n");
}

function deviceText(memory: MemoryEstimate, device: Device): string {
  const against = objections(memory, device);
  const { limits, pool, info, provider } = device;
  return [
    `device ${info.description || "unknown"} (${provider})`,
    `  limits           a buffer ${formatBytes(limits.maxBufferSize)}, a binding ` +
    `${formatBytes(limits.maxStorageBufferBindingSize)}, memory budget ` +
    `${pool.budget === Infinity ? "none (WebGPU does not tell how much memory there is)" : formatBytes(pool.budget)}`,
    ...device.explain().rungs.map(({ what, chosen }) => `  kernels          ${what}: ${chosen}`),
    ...against.length ? against.map((why) => `  does not fit     ${why}`) : ["  fits             yes"],
  ].join("\n");
}
