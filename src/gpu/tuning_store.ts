/**
 * Where tuning choices are kept between runs: one small JSON file in the user's cache folder. It is never required, and
 * safe to delete: without permission, or when it is damaged, choices are measured anew.
 *
 * @module
 */
import { dirname, join } from "node:path";
import process from "node:process";
import { VERSION } from "../version.ts";

/** The choices of one device, by what was chosen for. */
export type Choices = Map<string, string>;

const MAX_BYTES = 2 ** 20;
const NVIDIA_VERSION = "/sys/module/nvidia/version"; // wgpu tells no driver's version; Dawn's description does

/** `tuning.json` in the user's cache folder for this library; undefined where no environment variable names one. */
export function defaultTuningFile(): string | undefined {
  const cache = readEnv("XDG_CACHE_HOME"), home = readEnv("HOME") ?? readEnv("USERPROFILE");
  const folder = cache ?? (home && join(home, ".cache"));
  return folder && join(folder, "tensaur", "tuning.json");
}

/**
 * What the choices of a device depend on: the adapter, its driver, the WebGPU implementation and this library. `driverFile`
 * holds the driver's version, where there is such a file.
 */
export function deviceKey(provider: string, info: GPUAdapterInfo, driverFile = NVIDIA_VERSION): string {
  const { vendor, architecture, device, description } = info, version = driverVersion(driverFile);
  const driver = version && /nvidia/i.test(`${vendor} ${description}`) ? `driver ${version}` : "";
  const parts = [provider, vendor, architecture, device, description, driver];
  return [...parts, `deno ${Deno.version.deno}`, `tensaur ${VERSION}`].filter(Boolean).join(" | ");
}

/** The choices that `file` holds for a device; none where it cannot be read or understood. */
export function readChoices(file: string | undefined, device: string): Choices {
  return new Map(Object.entries(readAll(file)[device] ?? {}));
}

/** Adds `choices` to what `file` holds for a device by then; whether that was possible. */
export function writeChoices(file: string | undefined, device: string, choices: Choices): boolean {
  if (file === undefined || !granted("write", file)) return false;
  const all = readAll(file);
  all[device] = { ...all[device], ...Object.fromEntries(choices) };
  const part = `${file}.${process.pid}.part`;
  try {
    Deno.mkdirSync(dirname(file), { recursive: true });
    Deno.writeTextFileSync(part, JSON.stringify(all, undefined, 1) + "\n");
    Deno.renameSync(part, file); // whoever reads sees the old file or the new one
    return true;
  } catch {
    return false;
  }
}

function driverVersion(file: string): string | undefined {
  if (!granted("read", file)) return undefined;
  try {
    return Deno.readTextFileSync(file).trim();
  } catch {
    return undefined;
  }
}

type Stored = Record<string, Record<string, string>>;

function readAll(file: string | undefined): Stored {
  if (file === undefined || !granted("read", file)) return {};
  try {
    if (Deno.statSync(file).size > MAX_BYTES) return {};
    return understood(JSON.parse(Deno.readTextFileSync(file)));
  } catch {
    return {};
  }
}

/** What of a parsed file is choices. */
function understood(json: unknown): Stored {
  const stored: Stored = Object.create(null);
  for (const [device, choices] of Object.entries(isObject(json) ? json : {})) {
    if (!isObject(choices)) continue;
    const texts = Object.entries(choices).filter((entry): entry is [string, string] => typeof entry[1] === "string");
    stored[device] = Object.fromEntries(texts);
  }
  return stored;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Asks nobody: a prompt for a file that is not needed would only disturb. */
function granted(name: "read" | "write", path: string): boolean {
  return Deno.permissions.querySync({ name, path }).state === "granted";
}

function readEnv(name: string): string | undefined {
  if (Deno.permissions.querySync({ name: "env", variable: name }).state !== "granted") return undefined;
  return Deno.env.get(name) || undefined;
}
