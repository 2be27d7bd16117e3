/**
 * `tensaur perplexity`: how well a model predicts a text.
 *
 * @module
 */
import { Command } from "commander";
import { ValueError } from "../errors.ts";
import { perplexity, type PerplexityResult } from "../pipelines/mod.ts";
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
import { openSession } from "./session.ts";
import { Ui } from "./ui.ts";

interface PerplexityFlags extends ModelFlags, DeviceFlags, UiFlags {
  data: string;
  ctx?: number;
  stride?: number;
  maxTokens?: number;
}

const EXAMPLES = `
Examples:
  tensaur perplexity --data models/recipe/held_out.txt --ctx 512 --stride 256
  tensaur perplexity -m owner/name --data wiki.test.raw --stride 512 --json
  cat story.txt | tensaur perplexity --data -

Windows of --ctx tokens slide by --stride, and each scores the tokens that are new in it: a smaller stride lets each
token see more of its past, and takes longer. Bits per byte compare models with different tokenizers.`;

/** The command. */
export function perplexityCommand(): Command {
  const command = new Command("perplexity")
    .description("measure how well a model predicts a text")
    .requiredOption("-d, --data <file>", 'the text, in UTF-8; "-" reads it from stdin')
    .option("--ctx <tokens>", "tokens of a window (default: the model's positions, at most 1024)", whole(2))
    .option("--stride <tokens>", "tokens from one window to the next (default: half a window)", whole(1))
    .option("-n, --max-tokens <n>", "score the first n tokens of the text only", whole(2))
    .addHelpText("after", EXAMPLES);
  addOutputOptions(addDeviceOptions(addModelOptions(command)));
  return command.action(run);
}

async function run(flags: PerplexityFlags): Promise<void> {
  const ui = new Ui(flags), text = await readText(flags.data);
  using interrupt = new Interrupt();
  using session = await openSession(flags, ui, { signal: interrupt.signal, task: "causal-lm" });
  const { model, tokenizer, name } = session, start = performance.now();
  const part = flags.maxTokens === undefined ? text : tokenizer.encode(text).slice(0, flags.maxTokens);
  const found = await perplexity(model, tokenizer, part, {
    maxLength: flags.ctx,
    stride: flags.stride,
    signal: interrupt.signal,
    onProgress: (progress) => ui.bar.update(progress),
  });
  ui.bar.clear();
  const seconds = (performance.now() - start) / 1000;
  if (flags.json) ui.printJson({ model: name, dtype: model.dtype, data: flags.data, ...found, seconds });
  else ui.print(`${lines(found).join("\n")}\n`);
  ui.note(ui.style("dim", `speed       ${(found.scoredTokens / seconds).toFixed(1)} tok/s, ${seconds.toFixed(2)} s`));
}

async function readText(file: string): Promise<string> {
  const text = file === "-" ? await new Response(Deno.stdin.readable).text() : await Deno.readTextFile(file);
  if (text !== "") return text;
  throw new ValueError(`Cannot measure perplexity as ${file === "-" ? "stdin" : file} must hold a text: it is empty`);
}

function lines(found: PerplexityResult): string[] {
  const { tokens, scoredTokens, windows } = found;
  return [
    `perplexity  ${found.perplexity.toFixed(4)}`,
    `bits/byte   ${found.bitsPerByte.toFixed(4)}`,
    `tokens      ${scoredTokens} of ${tokens} scored, in ${windows.length} window${windows.length === 1 ? "" : "s"}`,
  ];
}
