/**
 * How a sentence-transformers checkpoint makes one vector of a text: modules.json and the files that it names.
 *
 * @module
 */
import { ModelFormatError, NotSupportedError } from "../errors.ts";
import { exists, openInside, readJson } from "../weights/files.ts";

/** What a checkpoint says about its embeddings. */
export interface SentenceConfig {
  pooling: "mean" | "cls";
  normalize: boolean;
  /** Most tokens of a text; undefined where the files do not say. */
  maxLength?: number;
}

const MAX_BYTES = 64 * 1024;

/**
 * Reads modules.json, POOLING/config.json and sentence_bert_config.json; without them mean pooling, normalized.
 *
 * @throws {NotSupportedError} for a module or a pooling that is not supported
 */
export async function readSentenceConfig(dir: string): Promise<SentenceConfig> {
  const maxLength = await readMaxLength(dir);
  if (!await exists(dir, "modules.json")) return { pooling: "mean", normalize: true, maxLength };
  const config: SentenceConfig = { pooling: "mean", normalize: false, maxLength };
  for (const { type, path } of await readModules(dir)) {
    const kind = type.split(".").at(-1);
    if (kind === "Pooling") config.pooling = poolingOf(await readJson(dir, `${path}/config.json`));
    else if (kind === "Normalize") config.normalize = true;
    else if (kind !== "Transformer") {
      throw new NotSupportedError(
        `Cannot embed as modules.json must name Transformer, Pooling and Normalize only: it names ${type}`,
      );
    }
  }
  return config;
}

async function readModules(dir: string): Promise<{ type: string; path: string }[]> {
  using file = await openInside(dir, "modules.json");
  const refuse = (what: string) => {
    throw new ModelFormatError(`Cannot read modules.json as it must be a list of modules: ${what}`);
  };
  if (file.size > MAX_BYTES) refuse(`it has ${file.size} bytes`);
  let list: unknown;
  try {
    list = JSON.parse(new TextDecoder().decode(await file.read(0, file.size)));
  } catch (error) {
    refuse((error as Error).message);
  }
  if (!Array.isArray(list) || !list.every((m) => typeof m?.type === "string" && typeof m?.path === "string")) {
    refuse(`it holds ${JSON.stringify(list).slice(0, 80)}`);
  }
  return list as { type: string; path: string }[];
}

function poolingOf(config: Record<string, unknown>): SentenceConfig["pooling"] {
  const flags = Object.keys(config).filter((key) => key.startsWith("pooling_mode_") && config[key] === true);
  const modes = flags.length ? flags : [`pooling_mode_${config.pooling_mode ?? "mean"}_tokens`];
  const [mode] = modes;
  if (modes.length === 1 && mode === "pooling_mode_mean_tokens") return "mean";
  if (modes.length === 1 && /^pooling_mode_cls_tokens?$/.test(mode!)) return "cls";
  throw new NotSupportedError(
    `Cannot embed as the checkpoint must pool by mean or cls: it says ${modes.join(", ")}`,
    { hint: "Pass --pooling mean or --pooling cls to use another one than it was trained with." },
  );
}

async function readMaxLength(dir: string): Promise<number | undefined> {
  if (!await exists(dir, "sentence_bert_config.json")) return undefined;
  const { max_seq_length: length } = await readJson(dir, "sentence_bert_config.json");
  return typeof length === "number" && length > 0 ? length : undefined;
}
