import { assert, assertEquals, assertRejects } from "@std/assert";
import { NotSupportedError } from "../../src/errors.ts";
import { generate } from "../../src/generation/mod.ts";
import { loadModel, planModel } from "../../src/models/mod.ts";
import { findModelFiles } from "../../src/models/model_files.ts";
import { familyOf } from "../../src/models/registry.ts";
import { writeGgufModel } from "../../src/models/write_gguf.ts";
import { quantizeModel } from "../../src/pipelines/mod.ts";
import { BitsAndBytesConfig } from "../../src/quantization/mod.ts";
import { createTokenizer, loadTokenizer, type Tokenizer } from "../../src/tokenizer/mod.ts";
import { ggufTokenizer } from "../../src/tokenizer/gguf_tokenizer.ts";
import { findGguf } from "../../src/weights/gguf_files.ts";
import { writeGguf } from "../../src/weights/gguf_write.ts";
import { testDevice } from "../helpers.ts";
import { hasReference } from "../reference.ts";
import { modelPath, relativeError } from "./fixture.ts";

const device = await testDevice();
const TINY = "models/tensaur-tiny";
const IDS = [[1, 17, 300, 42, 42, 7, 250, 3, 99, 180, 11, 64]];
const dir = await Deno.makeTempDir();
addEventListener("unload", () => Deno.removeSync(dir, { recursive: true }));

/** The model's numbers as they are, in a GGUF file. */
async function asNumbers(path: string, out: string): Promise<void> {
  const files = await findModelFiles(path, {});
  using checkpoint = await files.checkpoint();
  const model = { checkpoint, json: files.json, family: familyOf(files.json) };
  await writeGgufModel(out, model, { to: "F32", name: "test", tokenizer: [] });
}

async function logitsOf(path: string, options: Parameters<typeof loadModel>[1] = {}): Promise<Float32Array> {
  using model = await loadModel(path, { device, ...options });
  using result = await model.forward({ inputIds: IDS });
  return await result.logits!.read() as Float32Array;
}

/** The token that each position goes on with; undefined where another comes within `margin`. */
function likeliest(logits: Float32Array, margin = 0): (number | undefined)[] {
  const V = logits.length / IDS[0]!.length;
  return IDS[0]!.map((_, i) => {
    const row = logits.subarray(i * V, (i + 1) * V), best = row.reduce((best, v, n) => v > row[best]! ? n : best, 0);
    return row.some((v, n) => n !== best && v > row[best]! - margin) ? undefined : best;
  });
}

// paired rows and few key heads, biases that are paired too, windows, biases, norms of heads, [in, out], frequencies
for (
  const name of ["llama", "llama-tied-mqa", "mistral", "qwen2", "qwen3", "gpt2", "llama3-rope", "llama-linear-rope"]
) {
  const path = modelPath(name);
  if (!hasReference(`data/models/${name}`)) {
    Deno.test({ name: `skipped: ${name} of the reference data is not there`, ignore: true, fn() {} });
    continue;
  }
  Deno.test(`loadModel() of a GGUF file gives the logits of its original: ${name}`, async () => {
    const out = `${dir}/${name}.gguf`, want = await logitsOf(path, { dtype: "float32" });
    await asNumbers(path, out);
    const got = await logitsOf(out);
    assert(relativeError(got, want) < 1e-5, `numbers: ${relativeError(got, want)}`);
    assertEquals(likeliest(got), likeliest(want), "greedy tokens of the numbers");
    const { tensors } = await quantizeModel(path, { to: "q8_0", out });
    assert(tensors.every(({ relativeError }) => relativeError < 0.01));
    const blocks = await logitsOf(out), error = relativeError(blocks, want);
    assert(error > 0 && error < 0.1, `q8_0: ${error}`);
    const most = want.reduce((most, v, i) => Math.max(most, Math.abs(v - blocks[i]!)), 0),
      clear = likeliest(want, 2 * most);
    assertEquals(
      likeliest(blocks).map((id, i) => clear[i] === undefined ? undefined : id),
      clear,
      "greedy tokens of q8_0",
    );
    const unpacked = await logitsOf(out, { dtype: "float32" });
    assert(relativeError(blocks, unpacked) < 0.01, `unpacked: ${relativeError(blocks, unpacked)}`);
  });
}

Deno.test("a GGUF file of tensaur-tiny goes on as its original does, by its own tokenizer", async () => {
  const out = `${dir}/tiny.gguf`, prompt = "Once upon a time";
  await quantizeModel(TINY, { to: "q8_0", out });
  const run = async (path: string) => {
    using model = await loadModel(path, { device });
    const tokenizer = await loadTokenizer(path), inputIds = [tokenizer.encode(prompt)];
    const { sequences } = await generate(model, { inputIds }, { maxNewTokens: 16, doSample: false });
    return tokenizer.decode([...sequences[0]!], { skipSpecialTokens: true });
  };
  const want = await run(TINY);
  assertEquals(await run(out), want);
  assert(want.length > 40);
  const [of, file] = [await loadTokenizer(TINY), await loadTokenizer(dir, { ggufFile: "tiny.gguf" })];
  assertEquals([file.bosTokenId, file.eosTokenId, file.padTokenId], [of.bosTokenId, of.eosTokenId, of.padTokenId]);
  const chat = [{ role: "user", content: "Hello" }], options = { addGenerationPrompt: true } as const;
  assertEquals(await file.applyChatTemplate(chat, options), await of.applyChatTemplate(chat, options));
});

Deno.test("loadModel() puts a GGUF file's numbers into bitsandbytes' codes if it is asked to", async () => {
  const out = `${dir}/bnb.gguf`;
  await quantizeModel(TINY, { to: "q8_0", out });
  const quantizationConfig = new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitQuantType: "nf4" });
  const { weights } = await planModel(dir, { ggufFile: "bnb.gguf", quantizationConfig });
  assertEquals(new Set(weights.map(({ scheme }) => scheme)), new Set(["float16", "float32", "nf4"]));
  assertEquals((await planModel(out)).weights.find(({ name }) => name.includes("o_proj"))!.scheme, "q8_0");
  await assertRejects(() => quantizeModel(out, { to: "q4_0", out: `${dir}/x.gguf` }), NotSupportedError);
});

const TEXTS = [
  "Hello  world! it's 1234 o'clock\n\n  yes",
  "Ünïcödé 漢字 \u{1f600}",
  " a",
  "",
  "<|im_start|>x<|im_end|>",
];

for (const name of ["tensaur-tiny", "llama", "mistral", "qwen2", "qwen3", "gpt2"]) {
  const path = name === "tensaur-tiny" ? TINY : modelPath(name);
  if (name !== "tensaur-tiny" && !hasReference(`data/models/${name}`)) continue;
  Deno.test(`ggufTokenizer() encodes by tokens and merges alone as the original does, and chats alike: ${name}`, async () => {
    const out = `${dir}/tokenizer-${name}.gguf`;
    await quantizeModel(path, { to: "q8_0", out });
    const { gguf } = (await findGguf(out, {}))!;
    const metadata = new Map(gguf.header.metadata);
    gguf[Symbol.dispose]();
    assert(metadata.delete("tokenizer.huggingface.json"));
    const { json, config } = ggufTokenizer(metadata, out);
    const made = createTokenizer(json, { config }), original = await loadTokenizer(path);
    for (const text of TEXTS) {
      const options = { addSpecialTokens: false };
      assertEquals(made.encode(text, options), original.encode(text, options), text);
      assertEquals(made.decode(made.encode(text, options)), original.decode(original.encode(text, options)));
    }
    const chat = [{ role: "user", content: "Hello" }], asked = { addGenerationPrompt: true } as const;
    const said = (tokenizer: Tokenizer) => tokenizer.applyChatTemplate(chat, asked).catch((error: Error) => error.name);
    assertEquals(await said(await loadTokenizer(out)), await said(original));
  });
}

Deno.test("loadModel() refuses GGUF files that it cannot run, and closes them", async () => {
  const out = `${dir}/bad.gguf`;
  const type = (value: string) => [["general.architecture", { type: "string", value }]] as const;
  await writeGguf(out, type("whale"), []);
  await assertRejects(() => loadModel(out, { device }), NotSupportedError, "architecture must be one of");
  await writeGguf(out, type("llama"), []);
  await assertRejects(() => loadModel(out, { device }), Error, "must hold token_embd.weight");
  await assertRejects(() => loadModel(`${dir}/nothing.gguf`, { device }), Error, "no such file");
});
