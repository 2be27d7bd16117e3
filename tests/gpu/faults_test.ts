import { assert, assertEquals } from "@std/assert";
import type { Device, Recording } from "../../src/gpu/mod.ts";
import { rmsNorm, rmsNormReference } from "../../src/ops/rms_norm.ts";
import { softmax } from "../../src/ops/softmax.ts";
import { tensor } from "../../src/tensor/mod.ts";
import { assertClose, randn } from "../helpers.ts";
import { countCalls, failEach } from "./fail_each.ts";
import { KINDS } from "./faulty_device.ts";
import { providers } from "./providers.ts";

const ROWS = 3, DIM = 8;
const x = randn(ROWS * DIM), w = randn(DIM, 2);
const once = rmsNormReference(x, w), twice = rmsNormReference(once, w);

/** A kernel compiled ahead, ops, a capture replayed twice with new inputs, reads that overlap, and one that is early. */
async function program(device: Device): Promise<Float32Array[]> {
  using input = tensor(device, x, [ROWS, DIM]);
  using weight = tensor(device, w, [DIM]);
  await device.kernels.compile(device.kernels.collect(() => softmax(input).dispose()));
  using y = rmsNorm(input, weight, 1e-6);
  const reads = [y.read()];
  using output = rmsNorm(input, weight, 1e-6);
  using recording: Recording = device.stream.capture(() => {
    using between = rmsNorm(input, weight, 1e-6);
    using z = rmsNorm(between, weight, 1e-6);
    device.stream.copy(z.buffer.gpu, 0, output.buffer.gpu, 0, z.byteLength);
  });
  for (let step = 0; step < 2; step++) {
    input.write(x.map((v) => v * (step + 1)));
    device.stream.replay(recording);
    reads.push(output.read());
  }
  reads.push(output.read({ early: true }));
  const results = await Promise.all(reads) as Float32Array[];
  await device.stream.settled();
  return results;
}

function check(results: Float32Array[]): void {
  assertClose("the first op", results[0]!, once);
  for (const [step, result] of results.slice(1).entries()) {
    assertClose(`replay ${step}`, result, twice, { rtol: 1e-4 }); // a norm forgets the scale, but for eps
  }
}

for (const provider of providers) {
  Deno.test(`countCalls() sees every kind of call on ${provider}, and the same number again`, async () => {
    const counts = await countCalls(program, { provider });
    for (const kind of KINDS) {
      if (kind !== "createComputePipelineAsync" || provider === "dawn") {
        assert(counts[kind] > 0, `${kind} is never called`);
      }
    }
    assertEquals(await countCalls(program, { provider }), counts);
  });

  Deno.test(`a GPU call that fails on ${provider} never becomes a wrong number, a hang or a leak`, async () => {
    const stride = provider === "deno" ? 1 : 3;
    const { runs, errors } = await failEach(program, { check, provider, stride });
    assert(runs > 200 / stride && errors > 0.9 * runs, `${errors} of ${runs} runs saw their fault`);
  });
}
