/**
 * How a model generates, as generation_config.json says.
 *
 * @module
 */
import { LimitError, ModelPathError, throwIfAborted, ValueError } from "../errors.ts";
import { warnOnce } from "../warn.ts";
import { resolveModel, type ResolveOptions } from "../weights/hub.ts";
import { parseJson } from "../weights/json.ts";
import { DEFAULTS, FIELD_NAMES, type GenerationConfigFields } from "./config_fields.ts";
import { camelCase, snakeCase } from "./names.ts";
import { CALL_OPTIONS } from "./options.ts";
import { checkConfig, configWarnings, outputWarnings, refuseCallOptions } from "./validate.ts";
import { watermarkingConfigOf } from "./watermarking_config.ts";

const FILE = "generation_config.json";
const MAX_BYTES = 2 ** 20;
const INIT =
  " This was detected when initializing the generation config instance, which means the corresponding file " +
  "may hold incorrect parameterization and should be fixed.";

/** All fields of {@linkcode GenerationConfig}. */
export interface GenerationConfig extends GenerationConfigFields {
  /** What a file holds beside the fields, by its own names; it is written back. */
  readonly others: Readonly<Record<string, unknown>>;
}

/**
 * How a model generates. Each field has the name of Transformers' in camelCase, and its default; files on disk have its
 * own names.
 *
 * Pass one to `generate` as `generationConfig`: it takes the place of the model's own config, which still says which
 * tokens begin, end and pad a sequence where it does not. It is never changed by a call.
 *
 * @example
 * ```ts
 * import { GenerationConfig } from "@tensaur/tensaur";
 * const config = new GenerationConfig({ doSample: true, temperature: 0.7, maxNewTokens: 64 });
 * console.log(config.topK); // 50
 * console.log(config.toJson()); // { max_new_tokens: 64, do_sample: true, temperature: 0.7 }
 * ```
 */
export class GenerationConfig {
  /**
   * A config with the defaults of what `fields` leaves out.
   *
   * @param fields by their names in camelCase; others are kept under `others`
   * @throws {ValueError} if a field has a value that it cannot take
   */
  constructor(fields: Partial<GenerationConfigFields> & Readonly<Record<string, unknown>> = {}) {
    refuseCallOptions(fields);
    const known: readonly string[] = FIELD_NAMES;
    const given = Object.entries(fields).filter(([, value]) => value !== undefined);
    const others = Object.fromEntries(given.filter(([name]) => !known.includes(name)));
    Object.assign(this, DEFAULTS, Object.fromEntries(given.filter(([name]) => known.includes(name))), { others });
    if (this.watermarkingConfig) this.watermarkingConfig = watermarkingConfigOf(this.watermarkingConfig);
    this.#check(INIT);
  }

  /** From the keys of a generation_config.json. */
  static fromJson(json: Readonly<Record<string, unknown>>): GenerationConfig {
    const names = new Map<string, string>(FIELD_NAMES.map((name) => [snakeCase(name), name]));
    const fields = Object.entries(json).map(([key, value]) => [names.get(key) ?? camelCall(key), value]);
    return new GenerationConfig(Object.fromEntries(fields));
  }

  /**
   * Reads a generation_config.json.
   *
   * @param path the file, the folder of a model, or the model's name on the hub
   * @throws {ModelPathError} if there is none
   * @throws {ModelFormatError} if it is no JSON object
   * @throws {LimitError} if it is longer than 1 MiB
   * @throws {ValueError} if a field has a value that it cannot take
   */
  static async fromPretrained(path: string, options: ResolveOptions = {}): Promise<GenerationConfig> {
    throwIfAborted(options.signal, `reading ${path}`);
    const file = path.endsWith(".json") ? path : `${(await resolveModel(path, options)).dir}/${FILE}`;
    const size = await Deno.stat(file).then(({ size }) => size, (cause) => {
      throw new ModelPathError(`Cannot read ${file} as there must be such a file: ${cause.message}`, { cause });
    });
    if (size > MAX_BYTES) {
      throw new LimitError(`Cannot read ${file} as it must be at most ${MAX_BYTES} bytes: it has ${size}`);
    }
    return GenerationConfig.fromJson(parseJson(await Deno.readFile(file), file));
  }

  /**
   * Checks the fields, and warns of those that have no effect.
   *
   * @throws {ValueError} if a field has a value that it cannot take
   */
  validate(): void {
    this.#check("");
  }

  /** What differs from the defaults, under the names of files. */
  toJson(): Record<string, unknown> {
    const changed = FIELD_NAMES.filter((name) => JSON.stringify(this[name]) !== JSON.stringify(DEFAULTS[name]));
    const fields = changed.map((name) => [snakeCase(name), writable(this[name])]);
    return { ...Object.fromEntries(fields), ...this.others };
  }

  /**
   * Writes a generation_config.json.
   *
   * @param folder made if it is not there
   * @throws {ValueError} if {@linkcode GenerationConfig.validate} throws or warns: what is saved should be sound
   */
  async savePretrained(folder: string, { configFileName = FILE }: { configFileName?: string } = {}): Promise<void> {
    const wrong = this.#wrong();
    if (wrong) {
      throw new ValueError(
        "The generation config instance is invalid -- `.validate()` throws warnings and/or exceptions. Fix these issues " +
          `to save the configuration.\n\nThrown during validation:\n${wrong}`,
      );
    }
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(`${folder}/${configFileName}`, JSON.stringify(this.toJson(), undefined, 2) + "\n");
  }

  #check(location: string): void {
    checkConfig(this);
    for (const message of configWarnings(this)) warnOnce("UserWarning", message + location);
    for (const message of outputWarnings(this)) warnOnce("UserWarning", message);
  }

  #wrong(): string | undefined {
    try {
      checkConfig(this);
    } catch (error) {
      return (error as Error).message;
    }
    const warnings = [...configWarnings(this), ...outputWarnings(this)];
    return warnings.length ? `[${warnings.map((text) => JSON.stringify(text)).join(", ")}]` : undefined;
  }
}

/** "logits_processor" to "logitsProcessor", so that arguments of a call are refused; other keys stay. */
function camelCall(key: string): string {
  const name = camelCase(key);
  return (CALL_OPTIONS as readonly string[]).includes(name) ? name : key;
}

/** Settings of a watermark have the names of files too. */
function writable(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("validate" in value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, v]) => [snakeCase(name), v]));
}
