/** whatever bytes a coverage-guided loop finds, reading a header ends with tensors or a typed error. */
import { assert } from "@std/assert";
import { ModelFormatError } from "../../src/errors.ts";
import { parseSafetensorsHeader } from "../../src/weights/safetensors.ts";
import { coverageLoop } from "./coverage_loop.ts";
import { safetensors, seed } from "./fixture.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const SECONDS = FULL ? 60 : 2;

const encoder = new TextEncoder();
const header = encoder.encode(
  '{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' +
    '"b":{"dtype":"F16","shape":[2,1],"data_offsets":[4,8]}}',
);

Deno.test(`parseSafetensorsHeader() refuses or reads what a coverage-guided loop of ${SECONDS} s finds (seed ${seed})`, async () => {
  const end = performance.now() + SECONDS * 1000;
  let slowest = 0;
  const { runs, corpus, ranges } = await coverageLoop((input) => {
    const file = safetensors(input, 8); // its length is right, else few inputs would reach the JSON
    const begin = performance.now();
    try {
      parseSafetensorsHeader(file, file.length, "x");
    } catch (error) {
      assert(error instanceof ModelFormatError, `${error}: ${new TextDecoder().decode(input)}`);
    }
    slowest = Math.max(slowest, performance.now() - begin);
  }, {
    first: [header],
    done: (runs) => runs > 100 && performance.now() > end, // a busy machine takes longer
    seed,
    scripts: /src\/weights\/(safetensors|json_scanner)\.ts$/,
  });
  assert(slowest < 1000, `${runs} runs, the slowest took ${slowest} ms`);
  assert(corpus.length > 5 && ranges > 40, `${corpus.length} inputs reached ${ranges} ranges`);
});

Deno.test("coverageLoop() finds an input four branches deep", { ignore: !FULL }, async () => {
  let found = false;
  const target = ([a, b, c, d]: Uint8Array) => {
    if (a !== 1) return;
    if (b !== 2) return;
    if (c !== 4) return;
    if (d === 8) found = true;
  };
  const done = (runs: number) => found || runs > 20_000;
  await coverageLoop(target, { first: [new Uint8Array(4)], done, seed: 1, scripts: /coverage_loop_test/ });
  assert(found);
});
