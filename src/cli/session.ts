/**
 * A model ready to run, as the commands need it.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { GpuError, ValueError } from "../errors.ts";
import type { GenerationOptions } from "../generation/mod.ts";
import { type Device, formatBytes, openDevice } from "../gpu/mod.ts";
import { loadModel, type Model, type Task } from "../models/mod.ts";
import type { Progress } from "../progress.ts";
import { loadTokenizer, type Tokenizer } from "../tokenizer/mod.ts";
import { resolveModel } from "../weights/hub.ts";
import type { DeviceFlags, DraftFlags, ModelFlags } from "./options.ts";
import type { Ui } from "./ui.ts";

/** A model with its device and its tokenizer. */
export interface Session extends Disposable {
  /** What to call the model. */
  name: string;
  /** Its folder. */
  path: string;
  device: Device;
  model: Model;
  tokenizer: Tokenizer;
  /** What drafts for the model, with its tokenizer where that is another one; empty without `--draft`. */
  assistance: Pick<GenerationOptions, "assistantModel" | "assistantTokenizer">;
  /** Seconds that loading took. */
  loadSeconds: number;
}

/** The model that is used where none is named. */
export const DEFAULT_MODEL = "tensaur-tiny";

const LONGEST_PASS = 512; // longer prompts run in parts of this many tokens

/** What the model of `flags` is called. */
export function modelName({ model }: ModelFlags): string {
  return model ?? DEFAULT_MODEL;
}

/** The folder of the model that `flags` name, downloaded where need be; by default the embedded one. */
export async function findModel(flags: ModelFlags, ui: Ui, signal?: AbortSignal): Promise<string> {
  const name = flags.model ?? embeddedModel(), { revision } = flags;
  if (/\.gguf$/i.test(name)) return name; // a file, config and tokenizer included
  let downloaded = false;
  const onProgress = (progress: Progress) => {
    downloaded ||= progress.loaded > 0;
    if (progress.label === name) ui.bar.update(progress); // the sum of all files
  };
  const offline = flags.offline || undefined; // unset: what HF_HUB_OFFLINE says
  const { dir, commit } = await resolveModel(name, { revision, offline, onProgress, signal });
  ui.bar.clear();
  if (commit) ui[downloaded ? "note" : "detail"](`${name} is at commit ${commit}`);
  return dir;
}

/** Opens the device of `flags`. */
export async function openFlagged(flags: DeviceFlags, ui: Ui): Promise<Device> {
  if (flags.deviceProvider === "dawn" && Deno.permissions.querySync({ name: "ffi" }).state !== "granted") {
    throw new GpuError(
      "Cannot open a GPU device as Dawn is native code and must be permitted: --allow-ffi is not given",
      {
        hint: "Start it as: ./tensaur deno run --allow-all cli.ts … --device-provider dawn",
      },
    );
  }
  const device = await openDevice({ provider: flags.deviceProvider, memoryBudget: flags.memoryBudget });
  device.kernels.onCompile = (label, loaded) => ui.bar.update({ phase: "compile", label, loaded, total: 0 });
  return device;
}

/** How {@linkcode openSession} opens. */
export interface SessionOptions {
  /** What the model is for. */
  task?: Task;
  /** Stops the work. */
  signal?: AbortSignal;
  /** Tokens of the first prompt, whose kernels are compiled while the weights load. */
  promptLength?: (tokenizer: Tokenizer) => number | Promise<number>;
}

/** Opens the device and loads model and tokenizer; disposing of the session closes all of it. */
export async function openSession(
  flags: ModelFlags & DeviceFlags & DraftFlags,
  ui: Ui,
  { task, signal, promptLength }: SessionOptions = {},
): Promise<Session> {
  const start = performance.now();
  const path = await findModel(flags, ui, signal);
  const tokenizer = await loadTokenizer(path, { signal });
  const device = await openFlagged(flags, ui);
  try {
    const onProgress = (progress: Progress) => ui.bar.update(progress);
    const prompt = await promptLength?.(tokenizer), warmUp = prompt ? [Math.min(prompt, LONGEST_PASS)] : [];
    const model = await loadModel(path, { device, dtype: flags.dtype, task, onProgress, signal, warmUp });
    const assistance = await loadDraft(flags, model, ui, signal);
    ui.bar.clear();
    const loadSeconds = (performance.now() - start) / 1000;
    const { description } = device.info;
    ui.detail(`device      ${description || "unknown"} (${device.provider})`);
    ui.detail(
      `model       ${path}: ${model.config.model_type}, ${model.dtype}, ${
        formatBytes(device.pool.stats.bytesInUse)
      }, ` +
        `loaded in ${loadSeconds.toFixed(2)} s`,
    );
    return {
      name: modelName(flags),
      path,
      device,
      model,
      tokenizer,
      assistance,
      loadSeconds,
      [Symbol.dispose]() {
        assistance.assistantModel?.dispose();
        model.dispose();
        device.close(); // a process that exits with an open device can crash in the driver
      },
    };
  } catch (error) {
    device.close();
    throw error;
  }
}

/** The model of `--draft`, on the device of `target`. */
async function loadDraft(
  flags: ModelFlags & DraftFlags,
  target: Model,
  ui: Ui,
  signal?: AbortSignal,
): Promise<Session["assistance"]> {
  if (flags.draft === undefined) return {};
  const path = await findModel({ model: flags.draft, offline: flags.offline }, ui, signal);
  const onProgress = (progress: Progress) => ui.bar.update(progress);
  const assistantModel = await loadModel(path, { device: target.device, task: "causal-lm", onProgress, signal });
  if (assistantModel.sizes.vocabSize === target.sizes.vocabSize) return { assistantModel };
  return { assistantModel, assistantTokenizer: await loadTokenizer(path, { signal }) };
}

function embeddedModel(): string {
  const url = new URL(`../../models/${DEFAULT_MODEL}`, import.meta.url);
  if (url.protocol === "file:") return fileURLToPath(url);
  throw new ValueError("Cannot load the embedded model as this must run from a checkout: it runs from a package", {
    hint: "Name a model: --model owner/name, or a folder.",
  });
}
