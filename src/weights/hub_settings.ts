/**
 * Where the hub is, who asks, and where its files are kept: Python's environment variables, read with its rules.
 *
 * @module
 */

import { join } from "node:path";
import { ValueError } from "../errors.ts";

/** The environment variables that are read, for messages about `--allow-env`. */
const ALLOW_ENV = "--allow-env=HF_*,HOME,USERPROFILE,XDG_CACHE_HOME,HUGGINGFACE_HUB_CACHE,HUGGING_FACE_HUB_TOKEN";

/** What a call may set instead of the environment. */
export interface HubOverrides {
  /** Folder of the cache; default `$HF_HUB_CACHE`, then `$HF_HOME/hub`, then `~/.cache/huggingface/hub`. */
  cacheDir?: string;
  /** Access token; default `$HF_TOKEN`, then the file that `hf auth login` writes. */
  token?: string;
  /** Base address of the hub; default `$HF_ENDPOINT`, then `https://huggingface.co`. */
  endpoint?: string;
  /** Use the cache alone; default `$HF_HUB_OFFLINE`. */
  offline?: boolean;
}

/** Everything that is decided before the first request. */
export interface HubSettings {
  /** Folder that holds `models--owner--name`. */
  cacheDir: string;
  /** Absent: anonymous. */
  token?: string;
  /** Without a slash at its end. */
  endpoint: string;
  offline: boolean;
  /** Wait before the first retry; doubles with each. */
  backoffMs: number;
  /** A connection that is silent for so long counts as dropped. */
  stallMs: number;
}

/** The variable's value; undefined where it is unset, empty, or not granted by `--allow-env` (never prompts). */
export function readEnv(name: string): string | undefined {
  if (Deno.permissions.querySync({ name: "env", variable: name }).state !== "granted") return undefined;
  return Deno.env.get(name) || undefined;
}

/** `~` and `~/x` with the user's home folder in place of the tilde; other paths as they are. */
export function expandHome(path: string): string {
  if (path !== "~" && !/^~[/\\]/.test(path)) return path;
  const home = readEnv("HOME") ?? readEnv("USERPROFILE");
  return home === undefined ? path : join(home, path.slice(1));
}

/** The settings of one call: its own first, then the environment, then Python's defaults. */
export async function hubSettings(overrides: HubOverrides = {}): Promise<HubSettings> {
  const settings: HubSettings = {
    cacheDir: overrides.cacheDir ?? hubCacheDir(),
    endpoint: checkedEndpoint(overrides.endpoint ?? readEnv("HF_ENDPOINT") ?? "https://huggingface.co"),
    offline: overrides.offline ?? (isTrue(readEnv("HF_HUB_OFFLINE")) || isTrue(readEnv("TRANSFORMERS_OFFLINE"))),
    backoffMs: 500,
    stallMs: 30_000,
  };
  const token = settings.offline ? undefined : overrides.token ?? await implicitToken();
  if (token) settings.token = checkedToken(token);
  return settings;
}

/** The folder that Python's `huggingface_hub` uses too. */
export function hubCacheDir(): string {
  const direct = readEnv("HF_HUB_CACHE") ?? readEnv("HUGGINGFACE_HUB_CACHE");
  if (direct !== undefined) return expandHome(direct);
  const home = hfHome();
  if (home !== undefined) return join(home, "hub");
  throw new ValueError(
    "Cannot find the model cache as one of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME must be readable: " +
      "current value of each is unset or not permitted",
    { hint: `Run with ${ALLOW_ENV}, or pass cacheDir.` },
  );
}

function hfHome(): string | undefined {
  const direct = readEnv("HF_HOME");
  if (direct !== undefined) return expandHome(direct);
  const cache = readEnv("XDG_CACHE_HOME");
  if (cache !== undefined) return join(expandHome(cache), "huggingface");
  const home = readEnv("HOME") ?? readEnv("USERPROFILE");
  return home === undefined ? undefined : join(home, ".cache", "huggingface");
}

async function implicitToken(): Promise<string | undefined> {
  if (isTrue(readEnv("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) return undefined;
  const token = readEnv("HF_TOKEN") ?? readEnv("HUGGING_FACE_HUB_TOKEN");
  if (token !== undefined) return token.trim();
  const home = hfHome();
  const path = readEnv("HF_TOKEN_PATH") ?? (home === undefined ? undefined : join(home, "token"));
  if (path === undefined || Deno.permissions.querySync({ name: "read", path }).state !== "granted") return undefined;
  try {
    return (await Deno.readTextFile(path)).trim();
  } catch {
    return undefined; // nobody is logged in
  }
}

/** An invalid header value would be quoted by the runtime's own error, token and all. */
function checkedToken(token: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new ValueError(
    "Cannot use the hub token as it must be printable ASCII without spaces: current one is not (its value is withheld)",
    { hint: "Copy the token again, or unset HF_TOKEN." },
  );
}

function checkedEndpoint(endpoint: string): string {
  const url = URL.parse(endpoint);
  if (url && /^https?:$/.test(url.protocol) && !url.username && !url.password && !url.search && !url.hash) {
    return url.href.replace(/\/+$/, "");
  }
  const shown = url === null
    ? JSON.stringify(endpoint)
    : `${url.protocol}//${url.host}${url.pathname} with extra parts`;
  throw new ValueError(
    `Cannot use the hub endpoint as it must be an http(s) address without user name, query or fragment: current value is ${shown}`,
    { hint: "Set HF_ENDPOINT to an address like https://huggingface.co." },
  );
}

function isTrue(value: string | undefined): boolean {
  return value !== undefined && ["1", "ON", "YES", "TRUE"].includes(value.toUpperCase());
}
