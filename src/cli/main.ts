/**
 * The program: its commands, and from what they throw to an exit code.
 *
 * @module
 */
import { Command } from "commander";
import { benchCommand } from "./bench.ts";
import { chatCommand } from "./chat.ts";
import { completionCommand } from "./completion.ts";
import { devicesCommand } from "./devices.ts";
import { doctorCommand } from "./doctor.ts";
import { embedCommand } from "./embed.ts";
import { exitCodeOf, reportError } from "./exit_code.ts";
import { explainCommand } from "./explain.ts";
import { generateCommand } from "./generate.ts";
import { modelsCommand } from "./models.ts";
import { perplexityCommand } from "./perplexity.ts";
import { quantizeCommand } from "./quantize.ts";
import { showsColor } from "./ui.ts";
import { VERSION } from "./version.ts";

const EXAMPLES = `
Examples:
  tensaur generate "Once upon a time"
  tensaur chat
  tensaur explain owner/name
  tensaur doctor

Exit codes: 0 success, 2 wrong command line, 3 model or file, 4 GPU, 130 Ctrl-C, 1 anything else.`;

const COMMANDS = [
  generateCommand,
  chatCommand,
  embedCommand,
  explainCommand,
  modelsCommand,
  quantizeCommand,
  perplexityCommand,
  benchCommand,
  devicesCommand,
  doctorCommand,
  completionCommand,
];

/** Runs the command line `args` and returns the exit code; it never throws. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    await makeProgram().parseAsync(args.length ? args : ["--help"], { from: "user" });
    return Deno.exitCode;
  } catch (error) {
    reportError(error, { verbose: args.includes("--verbose") || args.includes("-v") });
    return exitCodeOf(error);
  }
}

function makeProgram(): Command {
  const program = new Command("tensaur")
    .description("Transformer models from their Hugging Face checkpoints on WebGPU.")
    .version(VERSION, "-V, --version")
    .helpCommand("help [command]", "print the help of a command")
    .addHelpText("after", EXAMPLES);
  for (const make of COMMANDS) program.addCommand(make());
  return withManners(program);
}

/** Errors are thrown and end with a hint, colours follow the environment: for `command` and those below it. */
function withManners(command: Command): Command {
  command.configureOutput({
    getOutHasColors: () => showsColor(Deno.stdout),
    getErrHasColors: () => showsColor(Deno.stderr),
  });
  command.exitOverride().showHelpAfterError(`hint: See: ${nameOf(command)} --help`);
  command.commands.forEach(withManners);
  return command;
}

function nameOf(command: Command): string {
  return command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name();
}
