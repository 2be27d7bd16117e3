import { assert, assertEquals } from "@std/assert";
import { type Assembled, bindingSlots, type Variant } from "../../src/gpu/assemble.ts";
import { openDevice } from "../../src/gpu/mod.ts";
import { SUBGROUP_MATRIX } from "../../src/gpu/probe_matrix.ts";
import { declared } from "../../src/gpu/variants.ts";
import { compileError } from "../../src/gpu/wgsl_error.ts";
import { allKernels, shaderNames, textOf, variantName, variants } from "./variants.ts";

const MOST = 2048; // variants of one kernel; above, it should be two kernels

// With its default constants a kernel must run on any device: 256 threads, 16 KiB of workgroup memory, 8 storage buffers
// (but those whose ops look at the limit first).
const BUFFERS: Readonly<Record<string, number>> = {
  selective_scan: 9,
  qkv_rope: 10,
  attention: 9,
  attention_subgroup: 9,
};
const DAWN_ONLY = /^enable chromium_/m; // naga has no subgroup matrices
const EXCEEDS = /exceeds the maximum|maximum allowed/;

/** A WGSL compiler: gives what is wrong with a text, or nothing. */
type Compile = (name: string, text: Assembled) => Promise<string | undefined>;

function compiler(gpu: GPUDevice, finish: (module: GPUShaderModule, text: Assembled) => void): Compile {
  return async (name, text) => {
    gpu.pushErrorScope("validation");
    const module = gpu.createShaderModule({ code: text.code });
    finish(module, text);
    const error = await gpu.popErrorScope();
    return error ? compileError(name, (await module.getCompilationInfo()).messages, text, error).message : undefined;
  };
}

/** naga in Deno. Pipelines are left out: on a CPU driver each takes up to a second, and the op tests make them. */
const device = await openDevice();
const naga = compiler(device.gpu, () => {});
const NAGA = { enable: false, INT64: device.features.shaderInt64 }, TINT = { enable: true, INT64: false };

/** Tint in Dawn's null backend, which needs no GPU, up to the pipeline with the layout that our kernels get. */
async function tint(): Promise<Compile | undefined> {
  try {
    const { create } = await import("webgpu");
    const api = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]) as GPU;
    const adapter = await api.requestAdapter();
    const requiredFeatures = ["subgroups" as GPUFeatureName, "shader-f16" as GPUFeatureName, SUBGROUP_MATRIX];
    const gpu = await adapter!.requestDevice({ requiredFeatures });
    Object.assign(globalThis, { pinned: [api, adapter, gpu] }); // or Dawn crashes
    return compiler(gpu, (module, { code }) => {
      const entries = bindingSlots(code).map(({ index, type }) => ({
        binding: index,
        visibility: 4,
        buffer: { type },
      }));
      if (DAWN_ONLY.test(code)) return; // it has no shapes of subgroup matrices
      const layout = gpu.createPipelineLayout({ bindGroupLayouts: [gpu.createBindGroupLayout({ entries })] });
      const unset = [...code.matchAll(/^override (\w+)(?:: \w+)?;/gm)].map(([, name]) => [name!, 4] as const);
      gpu.createComputePipeline({ layout, compute: { module, constants: Object.fromEntries(unset) } });
    });
  } catch {
    return undefined;
  }
}

const withTint = await tint();
if (!withTint) Deno.test("skipped: Tint, as npm:webgpu does not load here", () => {});

const kernels = await allKernels();

Deno.test("every shader is declared by an op, and every op's shader is in src/shaders", async () => {
  assertEquals([...kernels.keys()].sort(), await shaderNames());
});

for (const [name, { source }] of kernels) {
  const all = variants(source);
  const defaults = Object.entries(declared(source).consts).map(([word, values]) => [word, values[0]] as const);
  const mayExceed = (variant: Variant) => defaults.some(([word, value]) => variant.consts?.[word] !== value);
  const dawnOnly = DAWN_ONLY.test(source), compilers = dawnOnly ? "Tint" : "naga and Tint";
  Deno.test(`${name} compiles with ${compilers} in all ${all.length} variants`, async () => {
    assert(all.length <= MOST, `${all.length} variants are more than ${MOST}`);
    const faults: string[] = [];
    for (const variant of all) {
      const key = variantName(name, variant);
      const wrong = (dawnOnly ? undefined : await naga(`${key} (naga)`, textOf(name, source, variant, NAGA))) ??
        await withTint?.(`${key} (Tint)`, textOf(name, source, variant, TINT));
      const buffers = bindingSlots(textOf(name, source, variant, NAGA).code).filter(({ type }) => type !== "uniform");
      const asked = buffers.length > 8 && buffers.length <= BUFFERS[name]!;
      if (wrong && !(EXCEEDS.test(wrong) && (mayExceed(variant) || asked))) faults.push(wrong);
    }
    assert(faults.length === 0, `${faults.length} of ${all.length} fail:\n${faults.slice(0, 3).join("\n")}`);
  });
}

const texts: [name: string, code: string, naga: boolean, tint: boolean][] = [
  ["right", "@compute @workgroup_size(1) fn main() {}", true, true],
  ["wrong", "@compute @workgroup_size(1) fn main() { let x: u32 = 1.0; }", false, false],
  [
    "a barrier that not all threads reach",
    `var<workgroup> t: u32;
@compute @workgroup_size(4) fn main(@builtin(local_invocation_index) i: u32) {
  if (i == 0u) { workgroupBarrier(); }
  t = i;
}`,
    true,
    false,
  ],
  [
    "a workgroup pointer as an argument",
    "fn f(p: ptr<workgroup, u32>) {}\n@compute @workgroup_size(1) fn main() {}",
    false,
    true,
  ],
];

for (const [name, code, ...right] of texts) {
  Deno.test(`the compilers tell right from wrong: ${name}`, async () => {
    const text = { code, lines: [] };
    const found = [await naga(name, text), withTint ? await withTint(name, text) : right[1] ? undefined : "not asked"];
    assertEquals(found.map((wrong) => wrong === undefined), right);
  });
}
