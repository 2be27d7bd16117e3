import { assert, assertEquals } from "@std/assert";
import { random, testDevice } from "../helpers.ts";
import { errorOf, type GridCase, gridCases, nameOf, operations } from "./attention_grid.ts";

const NMSE = 5e-4; // ggml's limit for this op
const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const SAMPLE = 400, OF_A_KERNEL = 40;
const CHEAP = 90e6; // operations: a larger case is left to the full suite
const GROUPS = ["64/64 f32", "128/128 f16"]; // each size of head is another kernel to compile, for a second or more

const device = await testDevice({ gpuTimeout: 300_000 }); // the largest cases take long on a CPU
const { cases, all } = gridCases();

const groupOf = (c: GridCase) => `${c.hsk}/${c.hsv} ${c.tk}`;

/** Cases that run the same pipeline have the same. */
function kernelOf(c: GridCase): string {
  const queries = c.nb === 1 ? "one" : c.nb < 8 ? "few" : "many";
  return [groupOf(c), c.mask, c.softcap > 0, queries, queries === "many" ? 1 : Math.min(c.nr2, 8)].join(" ");
}

/** Cheap cases of few kernels, those with shared heads first, drawn with a fixed seed. */
function sample(): GridCase[] {
  const next = random(11);
  const cheap = cases.filter((c) => operations(c) <= CHEAP && GROUPS.includes(groupOf(c)));
  const weight = (list: GridCase[]) => Math.min(OF_A_KERNEL, list.length) * (kernelOf(list[0]!).endsWith("4") ? 3 : 1);
  const kernels = [...Map.groupBy(cheap, kernelOf).values()].sort((a, b) => weight(b) - weight(a));
  const shuffled = (list: GridCase[]) => list.map((c) => [next(), c] as const).sort(([a], [b]) => a - b);
  return kernels.flatMap((list) => shuffled(list).slice(0, OF_A_KERNEL).map(([, c]) => c)).slice(0, SAMPLE);
}

const chosen = FULL || !all ? cases : sample();
Deno.test(`the grid has ${chosen.length} cases`, () =>
  assertEquals(chosen.length, FULL || !all ? cases.length : SAMPLE));

for (const [name, list] of Map.groupBy(chosen, groupOf)) {
  Deno.test(`attention() is within ${NMSE} of float64 over ggml's grid: ${name}, ${list.length} cases`, async () => {
    const wrong: string[] = [];
    let worst = 0;
    for (const [i, c] of list.entries()) {
      const error = await errorOf(device, c, FULL ? 64 : 8, i + 1);
      if (!(error <= NMSE)) wrong.push(`${nameOf(c)}: ${error}`);
      worst = Math.max(worst, error);
    }
    await device.stream.settled();
    assertEquals(wrong, []);
    assert(worst > 0, "an error of exactly 0 means that nothing was compared");
  });
}
