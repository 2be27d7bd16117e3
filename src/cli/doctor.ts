/**
 * `tensaur doctor`: what works on this machine, and what to do where something does not.
 *
 * @module
 */
import { Command } from "commander";
import { type Check, checkAll, type DoctorFlags } from "./doctor_checks.ts";
import { EXIT } from "./exit_code.ts";
import { addDeviceOptions, addModelOptions, addOutputOptions, type UiFlags } from "./options.ts";
import { Ui } from "./ui.ts";

const EXAMPLES = `
Examples:
  tensaur doctor
  tensaur doctor --offline --json
  tensaur doctor --device-provider dawn

Exits with 4 if there is no usable GPU, with 3 if the model does not run, else with 0; warnings do not count.`;

const MARKS = { ok: ["green", "ok  "], warn: ["yellow", "warn"], fail: ["red", "FAIL"] } as const;

/** The command. */
export function doctorCommand(): Command {
  const command = new Command("doctor").description("check Deno, permissions, GPU, caches and network")
    .addHelpText("after", EXAMPLES);
  return addOutputOptions(addDeviceOptions(addModelOptions(command))).action(run);
}

async function run(flags: DoctorFlags & UiFlags): Promise<void> {
  const ui = new Ui(flags);
  const checks: Check[] = [];
  for await (const check of checkAll(flags)) {
    checks.push(check);
    if (!flags.json) ui.print(`${asText(check, ui)}\n`);
  }
  const failed = checks.filter(({ state }) => state === "fail");
  const code = failed[0]?.code ?? EXIT.ok;
  if (flags.json) ui.printJson({ ok: code === EXIT.ok, checks });
  else ui.note(failed.length ? `\n${failed.length} of ${checks.length} checks failed` : "\nEverything needed works.");
  Deno.exitCode = code;
}

function asText({ name, state, found, todo }: Check, ui: Ui): string {
  const [color, mark] = MARKS[state];
  const line = `${ui.style(color, mark, Deno.stdout)}  ${name.padEnd(12)} ${found}`;
  return todo ? `${line}\n      ${" ".repeat(12)} ${ui.style("cyan", "→", Deno.stdout)} ${todo}` : line;
}
