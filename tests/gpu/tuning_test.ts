import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { AbortError, GpuError } from "../../src/errors.ts";
import { type Candidate, type Device, openDevice, tune } from "../../src/gpu/mod.ts";
import { deviceKey } from "../../src/gpu/tuning_store.ts";
import { add, matmul } from "../../src/ops/mod.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { VERSION } from "../../src/version.ts";
import { asGpu } from "../helpers.ts";
import { TemporaryFolder } from "../weights/fixture.ts";

/** Candidates that add `times` times, and how often each ran. */
function adders(device: Device, times: Record<string, number>) {
  const x = tensor(device, new Float32Array(1024), [1024]), runs: Record<string, number> = {};
  const candidates = Object.entries(times).map(([name, n]): Candidate => ({
    name,
    run() {
      runs[name] = (runs[name] ?? 0) + 1;
      for (let i = 0; i < n; i++) add(x, x).dispose();
    },
  }));
  return { candidates, runs };
}

const SLOW_AND_FAST = { slow: 20, fast: 1 };
const PATIENT = { limit: 20_000 }; // on a busy machine; elsewhere it ends after some rounds

Deno.test("tune() takes the fastest, keeps it on disk, and measures no second time", async () => {
  using folder = new TemporaryFolder();
  const tuningFile = `${folder.path}/cache/tuning.json`;
  {
    await using device = await openDevice({ tuningFile });
    const { candidates, runs } = adders(device, SLOW_AND_FAST);
    assertEquals(await tune(device, "add", candidates, PATIENT), "fast");
    const before = { ...runs };
    assertEquals(await tune(device, "add", candidates, PATIENT), "fast");
    assertEquals(runs, before);
    assertMatch(`${device.explain()}`, /tuned {5}add: fast\n.*tuning\.json/);
  }
  assertEquals([...Deno.readDirSync(`${folder.path}/cache`)].map(({ name }) => name), ["tuning.json"]);
  await using device = await openDevice({ tuningFile });
  const { candidates, runs } = adders(device, SLOW_AND_FAST);
  assertEquals(device.tuning.choice("add", () => candidates), "fast");
  assertEquals(await tune(device, "add", candidates, PATIENT), "fast");
  assertEquals(runs, {});
  assertEquals(device.explain().tuning, { file: tuningFile, choices: { add: "fast" } });
});

Deno.test("Tuning.choice() gives the first until settle() has measured", async () => {
  await using device = await openDevice({ tuningFile: null });
  const { candidates } = adders(device, SLOW_AND_FAST);
  const choose = () => device.tuning.choice("add", () => candidates);
  assertEquals(choose(), "slow");
  assertEquals(choose(), "slow");
  await device.tuning.settle(PATIENT);
  assertEquals(device.tuning.choice("add", () => candidates), "fast");
  assertEquals(device.explain().tuning, { file: undefined, choices: { add: "fast" } });
});

Deno.test("the slices of a row's product are tuned on a GPU at the first start only, and any of them gives the product", async () => {
  using folder = new TemporaryFolder();
  const tuningFile = `${folder.path}/tuning.json`, features = { subgroups: false } as const, starts: string[] = [];
  for (const [i, settled] of [1, 0].entries()) {
    await using device = await openDevice({ tuningFile, features });
    const x = tensor(device, Float32Array.from({ length: 64 }, (_, i) => i % 7), [1, 64]);
    const b = tensor(device, Float32Array.from({ length: 64 * 8 }, (_, i) => i % 5), [64, 8]);
    const want = await matmul(x, b).read();
    asGpu(device, () => device.kernels.collect(() => matmul(x, b).dispose()));
    const { dispatches } = device.stream.counters;
    assertEquals(await device.tuning.settle(PATIENT), settled);
    assertEquals(device.stream.counters.dispatches > dispatches, i === 0);
    const [[key = "", slices = ""] = []] = device.tuning.all;
    assertMatch(key, /^slices of the sum of a row of 64 by 64 x 8 float32$/);
    assert(["4", "8", "16"].includes(slices), slices);
    assertEquals(await asGpu(device, () => matmul(x, b)).read(), want);
    starts.push(slices);
  }
  assertEquals(starts[1], starts[0]);
});

Deno.test("tune() has a limit, after which it is the first, and not for ever", async () => {
  using folder = new TemporaryFolder();
  await using device = await openDevice({ tuningFile: `${folder.path}/tuning.json` });
  const { candidates } = adders(device, SLOW_AND_FAST);
  assertEquals(await tune(device, "add", candidates, { limit: 0 }), "slow");
  assertEquals([...Deno.readDirSync(folder.path)], []);
});

const damaged: [string, string | Record<string, unknown>][] = [
  ["is empty", ""],
  ["is no JSON", '{"a": {"add":'],
  ["holds a list", "[1, 2]"],
  ["holds null", "null"],
  ["holds what is no choice", { "*": { add: 7 }, other: 3 }],
  ["names no candidate", { "*": { add: "gone" } }],
  ["has a key that objects inherit", '{"__proto__": {"add": "slow"}}'],
];
for (const [what, content] of damaged) {
  Deno.test(`tune() measures anew and writes the file again where it ${what}`, async () => {
    using folder = new TemporaryFolder();
    const tuningFile = `${folder.path}/tuning.json`;
    await using device = await openDevice({ tuningFile });
    const { candidates } = adders(device, SLOW_AND_FAST);
    await tune(device, "other", candidates, PATIENT); // to learn what the device is called there
    const [name = ""] = Object.keys(JSON.parse(Deno.readTextFileSync(tuningFile)));
    const text = typeof content === "string" ? content : JSON.stringify(content).replace("*", name);
    Deno.writeTextFileSync(tuningFile, text);
    await using again = await openDevice({ tuningFile });
    const { candidates: fresh, runs } = adders(again, SLOW_AND_FAST);
    assertEquals(await tune(again, "add", fresh, PATIENT), "fast");
    assert(runs.slow! > 0);
    assertEquals(JSON.parse(Deno.readTextFileSync(tuningFile))[name].add, "fast");
  });
}

Deno.test("tune() works where its file cannot be written, and keeps what other devices chose", async () => {
  using folder = new TemporaryFolder();
  folder.write("tuning.json", { "another GPU": { add: "slow" } });
  await using device = await openDevice({ tuningFile: `${folder.path}/tuning.json` });
  assertEquals(await tune(device, "add", adders(device, SLOW_AND_FAST).candidates, PATIENT), "fast");
  assertEquals(JSON.parse(Deno.readTextFileSync(`${folder.path}/tuning.json`))["another GPU"], { add: "slow" });
  await using other = await openDevice({ tuningFile: `${folder.path}/tuning.json/no/folder.json` });
  assertEquals(await tune(other, "add", adders(other, SLOW_AND_FAST).candidates, PATIENT), "fast");
});

Deno.test("deviceKey() names the adapter, the versions, and an NVIDIA driver's own where its file can be read", () => {
  using folder = new TemporaryFolder();
  folder.write("version", "535.1\n");
  const info = (vendor: string) => ({ vendor, architecture: "", device: "d", description: "GPU" }) as GPUAdapterInfo;
  const key = (vendor: string, file: string) => deviceKey("deno", info(vendor), `${folder.path}/${file}`);
  const end = `deno ${Deno.version.deno} | tensaur ${VERSION}`;
  assertEquals(key("NVIDIA", "version"), `deno | NVIDIA | d | GPU | driver 535.1 | ${end}`);
  assertEquals(key("NVIDIA", "none"), `deno | NVIDIA | d | GPU | ${end}`);
  assertEquals(key("other", "version"), `deno | other | d | GPU | ${end}`);
});

Deno.test("tune() refuses to choose among none, and stops", async () => {
  await using device = await openDevice({ tuningFile: null });
  await assertRejects(() => tune(device, "add", []), GpuError, "Cannot tune add");
  const { candidates } = adders(device, SLOW_AND_FAST);
  await assertRejects(() => tune(device, "add", candidates, { signal: AbortSignal.abort() }), AbortError);
});
