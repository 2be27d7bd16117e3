/** The folder that peers and the models made for them are kept in; nothing of it belongs in the repository. */
import { output } from "../process.ts";

/** Where the peers' scripts are: beside the repository, or where `TENSAUR_PEERS_SOURCE` says. */
export const PEERS_SOURCE = Deno.env.get("TENSAUR_PEERS_SOURCE") ??
  decodeURIComponent(new URL("../../../shared/peers", import.meta.url).pathname);

/** Where they are installed: `TENSAUR_PEERS`, or `tensaur/peers` in the user's cache folder. */
export const PEERS = Deno.env.get("TENSAUR_PEERS") ??
  `${Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME") ?? "."}/.cache`}/tensaur/peers`;

const MAKING = 180_000; // ms

/** The folder with the model `name`, which is made if it is not there yet. */
export async function benchModels(name = "bench-30m"): Promise<string> {
  const models = `${PEERS}/models`;
  if (await exists(`${models}/${name}/config.json`)) return models;
  const script = `${PEERS_SOURCE}/make_bench_models.py`;
  if (!await exists(script)) throw new Error(`${name} must be made by make_bench_models.py, which is not there`);
  await Deno.mkdir(models, { recursive: true });
  await output("python3", [script, models, name], { limit: MAKING });
  return models;
}

/** Whether there is a file or a folder. */
export async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
