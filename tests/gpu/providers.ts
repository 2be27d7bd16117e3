/** Which WebGPU implementations this machine can open. */
import { openDevice, type Provider } from "../../src/gpu/mod.ts";

async function opens(provider: Provider): Promise<boolean> {
  try {
    (await openDevice({ provider })).close();
    return true;
  } catch {
    return false;
  }
}

/** Deno's wgpu always; Dawn where the native part of npm:webgpu loads and finds a driver. */
export const providers: readonly Provider[] = await opens("dawn") ? ["deno", "dawn"] : ["deno"];

if (providers.length === 1) Deno.test("skipped: Dawn, as npm:webgpu finds no GPU here", () => {});
