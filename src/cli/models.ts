/**
 * `tensaur models`: what was downloaded from the hub, and downloading more.
 *
 * @module
 */
import { join } from "node:path";
import { Command } from "commander";
import { formatBytes } from "../gpu/mod.ts";
import { hubCacheDir } from "../weights/hub_settings.ts";
import { verifyModel } from "../weights/hub.ts";
import { Interrupt } from "./interrupt.ts";
import { addOutputOptions, type ModelFlags, type UiFlags } from "./options.ts";
import { findModel } from "./session.ts";
import { textTable } from "./table.ts";
import { Ui } from "./ui.ts";

type ModelsFlags = Pick<ModelFlags, "revision" | "offline"> & UiFlags;

/** A model in the cache. */
interface CachedModel {
  model: string;
  /** Commits by the branches and tags that they were asked for by. */
  revisions: Record<string, string>;
  bytes: number;
}

const EXAMPLES = `
Examples:
  tensaur models pull owner/name
  tensaur models list
  tensaur models verify owner/name

The cache is the one that Python's huggingface_hub uses too: HF_HUB_CACHE, or HF_HOME, or ~/.cache/huggingface.`;

/** The command. */
export function modelsCommand(): Command {
  const list = new Command("list").description("list the models in the cache").action(runList);
  const pull = new Command("pull").description("download a model, and print its folder")
    .argument("<model>", "hub id: owner/name")
    .option("--revision <revision>", "branch, tag or commit")
    .action(runPull);
  const verify = new Command("verify").description("compare each file of a model with the published hash; no network")
    .argument("<model>", "hub id: owner/name")
    .option("--revision <revision>", "branch, tag or commit")
    .action(runVerify);
  const models = new Command("models").description("download, list and verify models of the hub")
    .addHelpText("after", EXAMPLES);
  for (const command of [list, pull, verify]) models.addCommand(addOutputOptions(command));
  return models;
}

async function runPull(model: string, flags: ModelsFlags): Promise<void> {
  const ui = new Ui(flags);
  using interrupt = new Interrupt();
  const path = await findModel({ ...flags, model }, ui, interrupt.signal);
  if (flags.json) ui.printJson({ model, path });
  else ui.print(`${path}\n`);
}

async function runVerify(model: string, flags: ModelsFlags): Promise<void> {
  const ui = new Ui(flags);
  using interrupt = new Interrupt();
  const { revision } = flags;
  const { commit, files, bytes } = await verifyModel(model, { revision, signal: interrupt.signal });
  if (flags.json) ui.printJson({ model, commit, files, bytes });
  else ui.print(`${files.length} files (${formatBytes(bytes)}) of ${model} at ${commit} are as published\n`);
}

async function runList(flags: UiFlags): Promise<void> {
  const ui = new Ui(flags), folder = hubCacheDir(), models: CachedModel[] = [];
  for (const name of (await entriesOf(folder)).filter((name) => name.startsWith("models--"))) {
    models.push(await cachedModel(join(folder, name), name.slice("models--".length).replaceAll("--", "/")));
  }
  models.sort((a, b) => a.model < b.model ? -1 : 1);
  if (flags.json) return ui.printJson({ folder, models });
  if (models.length === 0) return ui.note(`${folder} holds no models`);
  const rows = models.map(({ model, revisions, bytes }) => {
    const shown = Object.entries(revisions).map(([name, commit]) => `${name} at ${commit.slice(0, 12)}`).join(", ");
    return [model, formatBytes(bytes), shown];
  });
  ui.print(`${textTable([["model", "bytes", "revisions"], ...rows], [0, 2])}\n`);
}

async function cachedModel(root: string, model: string): Promise<CachedModel> {
  const revisions: Record<string, string> = {};
  for (const name of await entriesOf(join(root, "refs"))) {
    revisions[name] = (await Deno.readTextFile(join(root, "refs", name)).catch(() => "")).trim();
  }
  let bytes = 0;
  for (const name of await entriesOf(join(root, "blobs"))) bytes += (await Deno.stat(join(root, "blobs", name))).size;
  return { model, revisions, bytes };
}

/** Names in a folder; none if it is not there. */
async function entriesOf(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
