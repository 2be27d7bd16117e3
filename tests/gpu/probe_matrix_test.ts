import { assert, assertEquals, assertMatch } from "@std/assert";
import { type Device, Guard, openDevice } from "../../src/gpu/mod.ts";
import { listedMatrices, type ListedMatrix, probeSubgroupMatrix } from "../../src/gpu/probe_matrix.ts";
import { matrixDevice } from "../helpers.ts";

const device = await matrixDevice();
if (device) testProbe(device);
else Deno.test("skipped: subgroup matrices, as Dawn finds none here", () => {});

function testProbe(device: Device): void {
  const { M, N, K } = (device.features.subgroupMatrix || {}).f16!;
  const listed = (M: number, N: number, K: number, componentType = "f16", resultComponentType = "f32") =>
    ({ M, N, K, componentType, resultComponentType }) satisfies ListedMatrix;

  Deno.test("probeSubgroupMatrix() believes no list: what does not multiply is left out", async () => {
    const lists: [readonly ListedMatrix[], found: unknown][] = [
      [[], false],
      [[listed(3 * M, N, K)], false],
      [[listed(M, N, K, "f16", "f16")], false],
      [[listed(M, N, K, "u8", "u32")], false],
      [[listed(M, N, K), listed(M, 3 * N, K)], { f16: { M, N, K } }],
    ];
    const guard = new Guard(device.gpu, 300_000);
    for (const [list, found] of lists) assertEquals(await probeSubgroupMatrix(device.gpu, guard, list), found);
    guard.close(true);
    await device.synchronize();
  });

  Deno.test("openDevice() has subgroup matrices as features say, and explain() names them", async () => {
    assertMatch(`${device.explain()}`, new RegExp(`subgroup matrices f16 ${M} x ${N} x ${K}.*\\n`));
    assertMatch(
      `${device.explain()}`,
      /products of many rows: subgroup matrices f16 .*a probe shader multiplied right/,
    );
    for (const features of [{}, { subgroupMatrix: false }, { subgroups: false }, { shaderF16: false }]) {
      await using other = await openDevice({ provider: "dawn", features, tuningFile: null });
      const left = Object.keys(features).length > 0 || other.isCpu;
      assertEquals(!other.features.subgroupMatrix, left);
    }
  });
}

Deno.test("probeSubgroupMatrix() finds none on a device without the feature, whatever a list says", async () => {
  await using plain = await openDevice({ tuningFile: null });
  const some = { M: 16, N: 16, K: 16, componentType: "f16", resultComponentType: "f32" };
  assertEquals(await probeSubgroupMatrix(plain.gpu, plain.guard, [some]), false);
  assertEquals(listedMatrices(plain.info), []);
  assert(!plain.features.subgroupMatrix);
});
