// The other commands as users run them.
import { assert, assertAlmostEquals, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { goldenCases, type GoldenTensor, hasReference, referencePath } from "../reference.ts";
import { continuation, PROMPT, STORY } from "./goldens.ts";
import { command, tensaur } from "./run.ts";

const tiny = "models/tensaur-tiny";

Deno.test("chat answers each line of a pipe, keeps the cache, and obeys its commands", async () => {
  const { code, stdout, stderr } = await tensaur(["chat", "--json", "--temp", "0", "-n", "12"], {
    stdin:
      'What is 7 plus 5?\n\n"""\nTell me\na story."""\n/nothing\n/set max-tokens 2\n/system Be brief.\nHi\n/bye\nnever\n',
  });
  assertEquals(code, 0, stderr);
  const turns = stdout.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(turns.length, 3);
  assertEquals([turns[0].content, turns[0].finishReason, turns[0].cachedTokens], [
    continuation("What is 7 plus 5?"),
    "stop",
    0,
  ]);
  assert(turns[1].cachedTokens >= turns[0].timing.promptTokens, "the first turn is in the cache");
  assertEquals([turns[2].timing.generatedTokens, turns[2].finishReason], [2, "length"]);
  assert(turns[2].cachedTokens < 5, "a new system message makes a new conversation");
  assertStringIncludes(stderr, "There is no command /nothing.");
  assertStringIncludes(stderr, "Set max-tokens to 2.");
});

Deno.test("chat at Ctrl-C ends the answer, not the program", async () => {
  const child = command(["chat", "--temp", "0", "--ignore-eos", "-n", "1000"]).spawn();
  const stderr = new Response(child.stderr).text();
  const writer = child.stdin.getWriter();
  const type = (line: string) => writer.write(new TextEncoder().encode(`${line}\n`));
  await type("Tell me a story.");
  let seen = "";
  for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
    if (seen.length < 30 && seen.length + piece.length >= 30) {
      child.kill("SIGINT");
      await type("/set max-tokens 3");
      await type("And then?");
      await writer.close();
    }
    seen += piece;
  }
  assertEquals((await child.status).code, 0, await stderr);
  assertEquals(seen.trimEnd().split("\n").at(-1)!.length > 0, true, "the second answer came");
  assert(seen.length < 2500, "the first answer ended early");
  assertStringIncludes(await stderr, "Set max-tokens to 3.");
});

Deno.test("explain --json tells layers, bytes and memory, and whether they fit", async () => {
  const { code, stdout } = await tensaur(["explain", tiny, "--json", "-c", "100", "--memory-budget", "5MiB"]);
  const plan = JSON.parse(stdout);
  assertEquals(code, 0);
  assertEquals([plan.modelType, plan.task, plan.dtype, plan.layers], ["llama", "causal-lm", "float16", 5]);
  assertEquals([plan.parameters, plan.cacheBytesPerToken], [3_312_384, 1280]);
  const { count, shape, byteLength } = plan.weights.find((w: { name: string }) => w.name.endsWith("*.mlp.down_proj"));
  assertEquals([count, shape], [5, [256, 512]]);
  assertAlmostEquals(byteLength / (5 * 256 * 512 * 2), 1, 0.01); // and the little that kernels need beside it
  assertEquals(plan.weights.reduce((sum: number, w: { byteLength: number }) => sum + w.byteLength, 0), plan.byteLength);
  assertEquals(plan.memory.cache, 128 * 1280);
  assertEquals(plan.device.fits, false);
  assertStringIncludes(plan.device.objections[0], "memory budget");
  assertEquals(plan.device.attention.map((l: { layer: number }) => l.layer), [0, 1, 2, 3, 4]);
  assertEquals([plan.device.attention[0].prompt.kernel, plan.device.attention[0].step.kernel], ["flash", "flash"]);
  assertEquals(plan.device.matrices.map((m: { name: string }) => m.name.replace(/.*\*\./, "")), [
    ...["model.embed_tokens", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"],
  ]);
  for (const { prompt, step } of plan.device.matrices) assertMatch(`${prompt} ${step}`, /^matmul.* \(.*\) matmul.* \(/);
});

Deno.test("explain prints a table, without a device too", async () => {
  const { code, stdout } = await tensaur(["explain", "--no-device", "--dtype", "f32"]);
  assertEquals(code, 0);
  assertMatch(stdout, /^model\.layers\.\*\.self_attn\.\{q_proj, k_proj, v_proj\} +\[384, 256\] +F16 → float32 +× 5 /m);
  assertMatch(stdout, /keys and values +\d/);
  assert(!stdout.includes("device "));
});

Deno.test("explain --quantize tells scheme, bytes and error of each layer", async () => {
  const { code, stdout } = await tensaur(["explain", tiny, "--quantize", "int8", "--json", "-c", "100"]);
  const { weights, errors } = JSON.parse(stdout);
  assertEquals([code, errors.length], [0, 20]);
  const { kept, byteLength, relativeError: [least, most] } = weights.find((w: { name: string }) =>
    w.name.endsWith("*.mlp.down_proj")
  );
  assertEquals(kept, "int8");
  assertAlmostEquals(byteLength / (5 * 256 * 512), 1, 0.02);
  assert(0.002 < least && least <= most && most < 0.02, `${least} to ${most}`);
});

Deno.test("quantize tells sizes, the error of each matrix, and what it does to the perplexity of a text", async () => {
  const dir = await Deno.makeTempDir(), out = `${dir}/tiny.gguf`;
  try {
    const text = ["--data", "models/recipe/held_out.txt", "-n", "120"];
    const { code, stdout } = await tensaur(["quantize", tiny, "--to", "q8_0", "--out", out, ...text], {
      flags: [`--allow-write=${dir}`],
    });
    assertEquals(code, 0, stdout);
    assertMatch(stdout, /^model\.layers\.4\.mlp\.down_proj +256 × 512 +q8_0 +\d\.\d\de-\d +0\.\d\d %$/m);
    const [, before = "", after = ""] = /MiB → ([\d.]+) MiB \(([\d.]+) %\)/.exec(stdout) ?? [];
    assert(Number(before) > 2 && Number(after) < 60, stdout);
    const [, change = ""] = /^perplexity [\d.]+ → [\d.]+ \(([+-][\d.]+) %\)$/m.exec(stdout) ?? [];
    assert(change !== "" && Math.abs(Number(change)) < 1, stdout);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("devices --json gives the device's report", async () => {
  const { code, stdout } = await tensaur(["devices", "--json"]);
  const [first] = JSON.parse(stdout);
  assertEquals([code, first.provider], [0, "deno"]);
  assert(first.limits.maxBufferSize >= 2 ** 28 && first.rungs.length > 0);
});

Deno.test("doctor finds that all needed works, and says what to do about the rest", async () => {
  const { code, stdout, stderr } = await tensaur(["doctor", "--offline"], { env: { HF_HOME: "/nowhere" } });
  assertEquals(code, 0, stdout);
  for (const name of ["deno", "permissions", "gpu", "features", "limits", "numbers", "model", "cache", "network"]) {
    assertMatch(stdout, new RegExp(`^(ok  |warn)  ${name} `, "m"));
  }
  const said = / says "(.*)" after/.exec(stdout)?.[1] ?? ""; // a few tokens, so the model decides how many letters
  assert(said.length > PROMPT.length && `${PROMPT}${STORY}`.startsWith(said), said);
  assertMatch(stdout, /missing --allow-write=.*\n +→ Start it with \.\/tensaur/);
  assertStringIncludes(stderr, "Everything needed works.");
});

Deno.test("doctor exits with 4 where there is no adapter", async () => {
  const { code, stdout } = await tensaur(["doctor", "--offline", "--json"], {
    env: { VK_ICD_FILENAMES: "/nowhere.json", VK_DRIVER_FILES: "/nowhere.json", DENO_WEBGPU_BACKEND: "vulkan" },
  });
  const { ok, checks } = JSON.parse(stdout);
  assertEquals([code, ok], [4, false]);
  const gpu = checks.find(({ name }: { name: string }) => name === "gpu");
  assertEquals(gpu.state, "fail");
  assertStringIncludes(gpu.todo, "Vulkan driver");
});

Deno.test("bench measures prompt and generation", async () => {
  const { code, stdout } = await tensaur(["bench", "-p", "16", "-g", "4", "-n", "2", "--output", "json"]);
  assertEquals(code, 0);
  const r = JSON.parse(stdout);
  assertEquals([r.promptTokens, r.generatedTokens, r.runs], [16, 4, 2]);
  for (const { min, mean, sd } of [r.promptTokensPerSecond, r.generationTokensPerSecond, r.timeToFirstToken]) {
    assert(min > 0 && mean >= min && sd >= 0);
  }
  assert(r.peakGpuBytes > 6e6 && r.device.description && r.system.deno === Deno.version.deno);
});

Deno.test("embed prints a line of JSON a text, and similarities", async () => {
  const lines = await tensaur(["embed", "-m", tiny], { stdin: "A fox.\n\nA red fox.\n" });
  assertEquals(lines.code, 0, lines.stderr);
  const vectors = lines.stdout.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(vectors.map(({ index, text }) => [index, text]), [[0, "A fox."], [1, "A red fox."]]);
  assertAlmostEquals(Math.hypot(...vectors[1].embedding), 1, 1e-6);

  const table = await tensaur(["embed", "-m", tiny, "--similarity", "--no-normalize", "A fox.", "A red fox."]);
  const dot = vectors[0].embedding.reduce((s: number, x: number, i: number) => s + x * vectors[1].embedding[i], 0);
  assertMatch(table.stdout, new RegExp(`^1  A fox\\. +1\\.000  ${dot.toFixed(3)}$`, "m"));
});

const sentence = "data/models/bert-sentence";
if (hasReference(sentence)) {
  Deno.test("embed pools and normalizes as modules.json says, as sentence-transformers does", async () => {
    const cases = await goldenCases<{
      name: string;
      inputs: { input_ids: number[][]; attention_mask: number[][] };
      outputs: { sentence_embedding: GoldenTensor };
    }>(`${sentence}/goldens`);
    const { inputs, outputs } = cases.find(({ name }) => name === "forward_batch")!;
    const path = referencePath(sentence), tokenizer = await loadTokenizer(path);
    const ids = inputs.input_ids.map((row, b) => row.filter((_, i) => inputs.attention_mask[b]![i]));
    const texts = ids.map((row) => tokenizer.decode(row, { skipSpecialTokens: true }));
    const { code, stdout } = await tensaur(["embed", "-m", path, "--json", ...texts]);
    const result = JSON.parse(stdout), D = result.dimensions, want = outputs.sentence_embedding.data;
    assertEquals([code, result.pooling, result.normalize], [0, "mean", true]);
    for (const [b, text] of texts.entries()) {
      if (tokenizer.encode(text).join() !== ids[b]!.join()) continue; // its text does not lead back to it
      for (let i = 0; i < D; i++) assertAlmostEquals(result.embeddings[b][i], Number(want[b * D + i]), 1e-5);
    }
  });
} else {
  Deno.test({ name: `skipped: ${sentence} of the reference data is not there`, ignore: true, fn() {} });
}

Deno.test("perplexity tells how well a model predicts a text, for people and as JSON", async () => {
  const args = ["perplexity", "--data", "-", "--ctx", "32", "--stride", "16"];
  const stdin = "Once upon a time, in a pretty forest, there lived a polite boy named Malik. He liked to sing songs.";
  const plain = await tensaur(args, { stdin });
  assertEquals(plain.code, 0, plain.stderr);
  assertMatch(
    plain.stdout,
    /^perplexity {2}[\d.]+\nbits\/byte {3}[\d.]+\ntokens {6}\d+ of \d+ scored, in \d windows?\n$/,
  );
  const { code, stdout } = await tensaur([...args, "--json", "-n", "10"], { stdin });
  const { tokens, scoredTokens, perplexity, bytes, windows } = JSON.parse(stdout);
  assertEquals([code, tokens, scoredTokens, windows.length], [0, 10, 9, 1]);
  assert(perplexity > 1 && perplexity < 2048 && bytes < stdin.length, stdout);
});
