/** Prints by how many bytes this process grows while it opens and destroys GPUDevices: `WARM_UP` first, then `COUNT`. */
import { residentBytes } from "../helpers.ts";

async function open(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const adapter = await navigator.gpu.requestAdapter();
    const gpu = await adapter!.requestDevice();
    gpu.destroy();
    await gpu.lost;
  }
}

const [warmUp, count] = Deno.args.map(Number) as [number, number];
await open(warmUp);
const before = residentBytes();
await open(count);
console.log(residentBytes() - before);
