/**
 * The checks of `tensaur doctor`, in the order in which things depend on each other.
 *
 * @module
 */
import { TensaurError } from "../errors.ts";
import { generate } from "../generation/mod.ts";
import { type Device, formatBytes } from "../gpu/mod.ts";
import { matrixNames } from "../gpu/report.ts";
import { loadModel } from "../models/mod.ts";
import { matmul } from "../ops/mod.ts";
import { tensor } from "../tensor/mod.ts";
import { loadTokenizer } from "../tokenizer/mod.ts";
import { hubCacheDir, hubSettings } from "../weights/hub_settings.ts";
import { EXIT, exitCodeOf } from "./exit_code.ts";
import type { DeviceFlags, ModelFlags } from "./options.ts";
import { findModel, modelName, openFlagged } from "./session.ts";
import { Ui } from "./ui.ts";
import { VERSION } from "./version.ts";

/** What doctor takes. */
export interface DoctorFlags extends ModelFlags, DeviceFlags {}

/** What was found of one thing. */
export interface Check {
  name: string;
  state: "ok" | "warn" | "fail";
  found: string;
  /** What to do about it. */
  todo?: string;
  /** The exit code that a failure means. */
  code?: number;
}

const LEAST_DENO = [2, 9];
const NETWORK_MS = 5000;

/** All checks; those that need a GPU are left out where there is none. */
export async function* checkAll(flags: DoctorFlags): AsyncGenerator<Check> {
  yield { name: "tensaur", state: "ok", found: VERSION };
  yield checkDeno();
  yield await guarded("permissions", EXIT.other, checkPermissions);
  let device: Device | undefined;
  yield await guarded("gpu", EXIT.device, async () => {
    device = await openFlagged(flags, new Ui({ quiet: true }));
    return checkGpu(device);
  });
  if (device) {
    try {
      yield* checkDevice(device, flags);
    } finally {
      device.close();
    }
  }
  yield await guarded("cache", EXIT.other, checkCache);
  yield await guarded("network", EXIT.other, () => checkNetwork(flags));
}

async function* checkDevice(device: Device, flags: DoctorFlags): AsyncGenerator<Check> {
  const { features: { subgroups, shaderF16, timestampQuery, shaderInt64, subgroupMatrix }, limits } = device;
  const has = (there: unknown) => there ? "yes" : "no";
  yield {
    name: "features",
    state: "ok",
    found: `subgroups ${has(subgroups)}, shader-f16 ${has(shaderF16)}, timestamp-query ${has(timestampQuery)}, ` +
      `64-bit loads ${has(shaderInt64)}, subgroup matrices ${matrixNames(subgroupMatrix)}`,
  };
  const { maxBufferSize: buffer, maxStorageBufferBindingSize: binding } = limits;
  yield {
    name: "limits",
    state: "ok",
    found: `a buffer holds ${formatBytes(buffer)}, a binding ${formatBytes(binding)}: no weight may be larger`,
  };
  yield await guarded("numbers", EXIT.device, () => checkNumbers(device));
  yield await guarded("model", EXIT.model, () => checkModel(device, flags));
}

/** Runs a check; what it throws is its failure. */
async function guarded(name: string, code: number, check: () => Promise<Omit<Check, "name">>): Promise<Check> {
  try {
    return { name, ...await check() };
  } catch (error) {
    const known = exitCodeOf(error);
    const todo = error instanceof TensaurError ? error.hint : undefined;
    return {
      name,
      state: "fail",
      found: (error as Error).message,
      todo: todo ?? "Run with --verbose and report what it prints.",
      code: known === EXIT.other || known === EXIT.usage ? code : known,
    };
  }
}

function checkDeno(): Check {
  const found = `${Deno.version.deno} (V8 ${Deno.version.v8}) on ${Deno.build.os} ${Deno.build.arch}`;
  const [major = 0, minor = 0] = Deno.version.deno.split(".").map(Number);
  const [leastMajor = 0, leastMinor = 0] = LEAST_DENO;
  if (major > leastMajor || (major === leastMajor && minor >= leastMinor)) return { name: "deno", state: "ok", found };
  return { name: "deno", state: "warn", found, todo: `Tensaur is made for Deno ${LEAST_DENO.join(".")} or newer.` };
}

async function checkPermissions(): Promise<Omit<Check, "name">> {
  const { endpoint, cacheDir } = await hubSettings({ offline: true });
  const host = new URL(endpoint).host;
  const wanted: [descriptor: Deno.PermissionDescriptor, flag: string][] = [
    [{ name: "read" }, "--allow-read"],
    [{ name: "write", path: cacheDir }, `--allow-write=${cacheDir}`],
    [{ name: "net", host }, `--allow-net=${host}`],
    [{ name: "env", variable: "HF_HOME" }, "--allow-env=HF_*"],
  ];
  const granted = (descriptor: Deno.PermissionDescriptor) => Deno.permissions.querySync(descriptor).state === "granted";
  const missing = wanted.filter(([descriptor]) => !granted(descriptor)).map(([, flag]) => flag);
  if (missing.length === 0) {
    const ffi = granted({ name: "ffi" }) ? "" : "; no ffi, which only --device-provider dawn needs";
    return { state: "ok", found: `read, environment, network to ${host}, writing to the model cache${ffi}` };
  }
  return {
    state: "warn",
    found: `missing ${missing.join(" ")}`,
    todo: "Start it with ./tensaur, or add these flags to deno run; without them nothing can be downloaded.",
  };
}

// deno-lint-ignore require-await -- one of several checks that are awaited
async function checkGpu(device: Device): Promise<Omit<Check, "name">> {
  const found = `${device.info.description || "an adapter without a name"} (${device.provider})`;
  if (!device.isCpu) return { state: "ok", found };
  return {
    state: "warn",
    found: `${found}: a CPU driver, slow but right`,
    todo: "With a GPU in this machine, install its Vulkan driver; VK_ICD_FILENAMES must not name another one.",
  };
}

/** A product of two matrices of odd sizes against plain loops. */
async function checkNumbers(device: Device): Promise<Omit<Check, "name">> {
  const M = 7, K = 65, N = 33;
  const wave = (n: number, step: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(step * (i + 1)));
  const a = wave(M * K, 0.7), b = wave(K * N, 0.3);
  using x = tensor(device, a, [M, K]);
  using w = tensor(device, b, [K, N]);
  using y = matmul(x, w);
  const got = await y.read();
  let worst = 0;
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += a[m * K + k]! * b[k * N + n]!;
      const error = Math.abs(got[m * N + n]! - sum);
      worst = error <= worst ? worst : error; // a NaN stays
    }
  }
  const found = `a matrix product differs by at most ${worst.toExponential(1)}`;
  if (worst < 1e-4) return { state: "ok", found };
  return { state: "fail", found, todo: "The driver computes wrong numbers: update it.", code: EXIT.device };
}

async function checkModel(device: Device, flags: DoctorFlags): Promise<Omit<Check, "name">> {
  const path = await findModel(flags, new Ui({ quiet: true }));
  const tokenizer = await loadTokenizer(path);
  using model = await loadModel(path, { device, dtype: flags.dtype, task: "causal-lm" });
  const start = performance.now(), prompt = "Once upon a time";
  const options = { maxNewTokens: 8, doSample: false, eosTokenId: null };
  const { sequences } = await generate(model, tokenizer(prompt), options);
  const text = JSON.stringify(tokenizer.decode(sequences[0]!, { skipSpecialTokens: true }));
  return { state: "ok", found: `${modelName(flags)} says ${text} after ${Math.round(performance.now() - start)} ms` };
}

async function checkCache(): Promise<Omit<Check, "name">> {
  const folder = hubCacheDir();
  try {
    const models = (await Array.fromAsync(Deno.readDir(folder))).filter(({ name }) => name.startsWith("models--"));
    return { state: "ok", found: `${folder} holds ${models.length} model${models.length === 1 ? "" : "s"}` };
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return { state: "ok", found: `${folder} does not exist yet; the first download makes it` };
  }
}

async function checkNetwork(flags: DoctorFlags): Promise<Omit<Check, "name">> {
  const { endpoint, offline } = await hubSettings({ offline: flags.offline || undefined });
  if (offline) return { state: "ok", found: "offline, as asked for: only models in the cache can be used" };
  try {
    const response = await fetch(endpoint, { method: "HEAD", signal: AbortSignal.timeout(NETWORK_MS) });
    await response.body?.cancel();
    return { state: "ok", found: `${endpoint} answers` };
  } catch (error) {
    return {
      state: "warn",
      found: `${endpoint} cannot be reached: ${innermost(error).message}`,
      todo: "Local folders and downloaded models work all the same; HTTPS_PROXY names a proxy, HF_ENDPOINT a mirror.",
    };
  }
}

function innermost(error: unknown): Error {
  const { cause } = error as Error;
  return cause instanceof Error ? innermost(cause) : error as Error;
}
