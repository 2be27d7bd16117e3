/**
 * Every bench, or those whose names hold one of the arguments: `deno task bench [--smoke] [--out FILE] [name…]`.
 *
 * Each op bench runs in a process of its own; the decode bench follows. The report names device, versions and commit.
 */
import { openDevice } from "../src/gpu/mod.ts";
import { decodeBench } from "./decode_bench.ts";
import { loadBench, loadText } from "./load_bench.ts";
import { replayBench, replayText } from "./replay_bench.ts";

const smoke = Deno.args.includes("--smoke");
const at = Deno.args.indexOf("--out");
const out = at === -1 ? undefined : Deno.args[at + 1];
const names = Deno.args.filter((arg, i) => !arg.startsWith("--") && (at === -1 || i !== at + 1));
const wanted = (name: string) => names.length === 0 || names.some((part) => name.includes(part));
const report: string[] = [];

/** Prints a line and keeps it for the report. */
function say(line: string): void {
  console.log(line);
  report.push(line);
}

async function commit(): Promise<string> {
  const { stdout } = await new Deno.Command("git", { args: ["describe", "--always", "--dirty"] }).output();
  return new TextDecoder().decode(stdout).trim() || "unknown";
}

async function header(): Promise<void> {
  await using device = await openDevice();
  say(`device ${device.info.description || device.info.vendor}, provider ${device.provider}`);
  say(`deno ${Deno.version.deno}, commit ${await commit()}, ${new Date().toISOString()}`);
}

async function opBenches(): Promise<void> {
  const folder = new URL("./ops/", import.meta.url);
  const files = [...Deno.readDirSync(folder)].map(({ name }) => name).filter(wanted).sort();
  for (const file of files) {
    await sub(new URL(file, folder).pathname, ...smoke ? ["--smoke"] : []);
  }
}

/** What `deno run ARGS` prints, said again. */
async function sub(...args: string[]): Promise<void> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--quiet", ...args],
    stderr: "inherit",
  });
  const { success, stdout } = await command.output();
  if (!success) throw new Error(`${args[0]} failed`);
  say(new TextDecoder().decode(stdout).trimEnd());
}

await header();
await opBenches();
if (wanted("attention_report") && !smoke) await sub(new URL("./attention_report.ts", import.meta.url).pathname);
if (wanted("decode")) {
  const result = await decodeBench(
    new URL("../models/tensaur-tiny", import.meta.url).pathname,
    smoke ? 16 : 128,
    smoke ? 1 : 5,
  );
  say(
    `decode ${result.model}: ${result.ahead.toFixed(1)} tok/s running ahead, ${
      result.awaited.toFixed(1)
    } tok/s awaiting each ` +
      `token (ratio ${result.ratio.toFixed(2)}), ${result.dispatchesPerToken.toFixed(1)} dispatches a token`,
  );
}
if (wanted("replay")) {
  say(replayText(await replayBench(new URL("../models/tensaur-tiny", import.meta.url).pathname, smoke ? 2 : 30)));
}
if (wanted("load")) say(loadText(smoke ? await loadBench(40, 1) : await loadBench()));
if (out) await Deno.writeTextFile(out, report.join("\n") + "\n");
