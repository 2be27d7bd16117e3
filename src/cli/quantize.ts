/**
 * `tensaur quantize`: a smaller model on the disk.
 *
 * @module
 */
import { Argument, Command, Option } from "commander";
import { ValueError } from "../errors.ts";
import { formatBytes } from "../gpu/mod.ts";
import { loadModel } from "../models/mod.ts";
import {
  perplexity,
  QUANTIZED_FORMATS,
  type QuantizedFormat,
  type QuantizedModel,
  quantizeModel,
} from "../pipelines/mod.ts";
import { loadTokenizer } from "../tokenizer/mod.ts";
import { Interrupt } from "./interrupt.ts";
import { addDeviceOptions, addOutputOptions, type DeviceFlags, type UiFlags, whole } from "./options.ts";
import { findModel, openFlagged } from "./session.ts";
import { textTable } from "./table.ts";
import { Ui } from "./ui.ts";

interface QuantizeFlags extends DeviceFlags, UiFlags {
  to: QuantizedFormat;
  out: string;
  data?: string;
  maxTokens?: number;
  revision?: string;
  offline?: boolean;
}

/** Perplexity of a text before and after. */
interface Change {
  before: number;
  after: number;
}

const EXAMPLES = `
Examples:
  tensaur quantize ./model --to q4_k --out model-q4_k.gguf
  tensaur quantize owner/name --to nf4 --out ./model-nf4
  tensaur quantize models/tensaur-tiny --to q8_0 --out tiny.gguf --data models/recipe/held_out.txt

q4_0, q8_0 and q4_k make a GGUF file; nf4 and int8 a folder as bitsandbytes saves it, which transformers loads too.`;

/** The command. */
export function quantizeCommand(): Command {
  const command = new Command("quantize")
    .description("write a model with fewer bits to a number")
    .addArgument(new Argument("[model]", "folder or hub id (default: the embedded model)"))
    .addOption(new Option("--to <format>", "what to make of it").choices(QUANTIZED_FORMATS).makeOptionMandatory())
    .requiredOption("-o, --out <path>", "the GGUF file, or the folder, to write")
    .option("-d, --data <file>", "a text in UTF-8, of which the perplexity before and after is measured")
    .option("-n, --max-tokens <n>", "score the first n tokens of the text only", whole(2))
    .option("--revision <revision>", "branch, tag or commit on the hub")
    .option("--offline", "use what was downloaded before; no network")
    .addHelpText("after", EXAMPLES);
  addOutputOptions(addDeviceOptions(command));
  return command.action(run);
}

async function run(model: string | undefined, flags: QuantizeFlags): Promise<void> {
  const ui = new Ui(flags), text = flags.data === undefined ? undefined : await Deno.readTextFile(flags.data);
  if (text === "") throw new ValueError(`Cannot measure perplexity as ${flags.data} must hold a text: it is empty`);
  using interrupt = new Interrupt();
  const { signal } = interrupt;
  const path = await findModel({ ...flags, model }, ui, signal);
  const made = await quantizeModel(path, {
    ...{ to: flags.to, out: flags.out, signal },
    onProgress: (progress) => ui.bar.update(progress),
  });
  ui.bar.clear();
  const change = text === undefined ? undefined : await measure(path, text, flags, ui, signal);
  if (flags.json) ui.printJson({ model: path, to: flags.to, ...made, perplexity: change });
  else ui.print(`${lines(made, change).join("\n")}\n`);
}

/** Perplexity of the model and of what was made of it, on one device. */
async function measure(path: string, text: string, flags: QuantizeFlags, ui: Ui, signal: AbortSignal): Promise<Change> {
  await using device = await openFlagged(flags, ui);
  const of = async (name: string) => {
    const onProgress = (progress: Parameters<typeof ui.bar.update>[0]) => ui.bar.update(progress);
    const tokenizer = await loadTokenizer(name, { signal });
    using model = await loadModel(name, { device, signal, onProgress });
    const ids = tokenizer.encode(text), part = ids.slice(0, flags.maxTokens ?? ids.length);
    const found = await perplexity(model, tokenizer, part, { signal, onProgress });
    ui.bar.clear();
    return found.perplexity;
  };
  return { before: await of(path), after: await of(flags.out) };
}

function lines({ path, bytesBefore, bytesAfter, tensors }: QuantizedModel, change: Change | undefined): string[] {
  const rows = tensors.map(({ name, shape, scheme, rmsError, relativeError }) => [
    ...[name, shape.join(" × "), scheme, rmsError.toExponential(2), `${(100 * relativeError).toFixed(2)} %`],
  ]);
  const percent = (a: number, b: number) => `${a >= b ? "+" : ""}${(100 * (a / b - 1)).toFixed(2)} %`;
  return [
    textTable([["matrix", "shape", "as", "RMS error", "of its size"], ...rows], [0, 1, 2]),
    "",
    `${path}: ${formatBytes(bytesBefore)} → ${formatBytes(bytesAfter)} (${
      (100 * bytesAfter / bytesBefore).toFixed(1)
    } %)`,
    ...change
      ? [
        `perplexity ${change.before.toFixed(4)} → ${change.after.toFixed(4)} (${percent(change.after, change.before)})`,
      ]
      : [],
  ];
}
