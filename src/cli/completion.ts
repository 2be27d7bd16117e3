/**
 * `tensaur completion`: scripts that let a shell complete commands and options.
 *
 * @module
 */
import { Argument, Command } from "commander";
import { Ui } from "./ui.ts";

const EXAMPLES = `
Examples:
  eval "$(tensaur completion bash)"
  eval "$(tensaur completion zsh)"
  tensaur completion fish | source

Put the line into the shell's start-up file to keep it.`;

const SCRIPTS = {
  bash,
  zsh: (program: Command) => `autoload -U +X bashcompinit && bashcompinit\n${bash(program)}`,
  fish,
};

/** The command. */
export function completionCommand(): Command {
  return new Command("completion")
    .description("print a script that completes commands and options in a shell")
    .addArgument(new Argument("<shell>", "which shell").choices(Object.keys(SCRIPTS)))
    .addHelpText("after", EXAMPLES)
    .action((shell: keyof typeof SCRIPTS, _, { parent }: Command) => new Ui().print(`${SCRIPTS[shell](parent!)}\n`));
}

/** Commands with the long forms of their options, and with their own commands. */
function words(program: Command): { name: string; about: string; options: { flag: string; about: string }[] }[] {
  return program.commands.map((command) => ({
    name: command.name(),
    about: command.description(),
    options: [
      ...command.commands.map((each) => ({ flag: each.name(), about: each.description() })),
      ...command.options.flatMap(({ long, description }) => long ? [{ flag: long, about: description }] : []),
      { flag: "--help", about: "display help" },
    ],
  }));
}

function bash(program: Command): string {
  const commands = words(program);
  const cases = commands.map(({ name, options }) => `    ${name}) words="${options.map((o) => o.flag).join(" ")}" ;;`);
  return `_tensaur() {
  local words
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
    *) words="--help --version" ;;
  esac
  [ "$COMP_CWORD" -gt 1 ] || words="${commands.map(({ name }) => name).join(" ")} --help --version"
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _tensaur tensaur`;
}

function fish(program: Command): string {
  const quote = (text: string) => `'${text.replaceAll(/['\\]/g, "\\$&")}'`;
  return words(program).flatMap(({ name, about, options }) => [
    `complete -c tensaur -n __fish_use_subcommand -f -a ${name} -d ${quote(about)}`,
    ...options.map(({ flag, about }) => {
      const word = flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-f -a ${flag}`;
      return `complete -c tensaur -n '__fish_seen_subcommand_from ${name}' ${word} -d ${quote(about)}`;
    }),
  ]).join("\n");
}
