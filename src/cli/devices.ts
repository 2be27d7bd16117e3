/**
 * `tensaur devices`: what WebGPU finds on this machine.
 *
 * @module
 */
import { Command } from "commander";
import { GpuError } from "../errors.ts";
import { type DeviceReport, openDevice, type Provider } from "../gpu/mod.ts";
import { addOutputOptions, type UiFlags } from "./options.ts";
import { Ui } from "./ui.ts";

const EXAMPLES = `
Examples:
  tensaur devices
  tensaur devices --json

Lists the adapters of Deno's WebGPU and, with --allow-ffi, those of npm:webgpu (Dawn): name, features, limits, and the
kernels that Tensaur would choose. On Linux VK_ICD_FILENAMES selects the Vulkan driver.`;

/** The command. */
export function devicesCommand(): Command {
  const command = new Command("devices").description("list GPUs with their features and limits")
    .addHelpText("after", EXAMPLES);
  return addOutputOptions(command).action(run);
}

async function run(flags: UiFlags): Promise<void> {
  const ui = new Ui(flags);
  const ffi = Deno.permissions.querySync({ name: "ffi" }).state === "granted";
  const reports = (await Promise.all((ffi ? ["deno", "dawn"] as const : ["deno"] as const).map(reportsOf))).flat();
  if (reports.length === 0) {
    throw new GpuError("Cannot list GPUs as a WebGPU adapter must be there: none was found", {
      hint: "Install a Vulkan driver (Debian: mesa-vulkan-drivers), or run ./tensaur doctor.",
    });
  }
  if (flags.json) ui.printJson(reports);
  else ui.print(`${reports.join("\n\n")}\n`);
}

/** The fast and the frugal adapter of a provider, which are often one. */
async function reportsOf(provider: Provider): Promise<DeviceReport[]> {
  const reports = new Map<string, DeviceReport>();
  for (const powerPreference of ["high-performance", "low-power"] as const) {
    const device = await openDevice({ provider, powerPreference }).catch((error) => {
      if (error instanceof GpuError) return undefined;
      throw error;
    });
    if (!device) continue;
    const report = device.explain();
    device.close();
    reports.set(JSON.stringify(report.adapter), report);
  }
  return [...reports.values()];
}
