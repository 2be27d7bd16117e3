import { assert, assertEquals } from "@std/assert";

interface Told {
  isCpu: boolean;
  devices: number;
  sequences: number[][];
}

/** What compile_beside_child.ts tells that has the shader cache in `folder`. */
async function start(folder: string): Promise<Told> {
  const { stdout, code } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", "--quiet", new URL("compile_beside_child.ts", import.meta.url).pathname],
    env: { MESA_SHADER_CACHE_DIR: folder },
    stderr: "inherit",
  }).output();
  assertEquals(code, 0);
  return JSON.parse(new TextDecoder().decode(stdout));
}

Deno.test("compileBeside() opens a second device for a cold start on a CPU, closes it, and changes no token", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const cold = await start(folder), warm = await start(folder);
    assertEquals(warm.sequences, cold.sequences);
    assertEquals(cold.devices, cold.isCpu && navigator.hardwareConcurrency > 1 ? 2 : 1);
    assert(warm.devices <= cold.devices);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
