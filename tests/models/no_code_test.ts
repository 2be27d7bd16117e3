/** no code of a model's is run, and loading needs no permission but to read its folder. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { NotSupportedError } from "../../src/errors.ts";
import { planModel } from "../../src/models/mod.ts";
import { loadTokenizer } from "../../src/tokenizer/mod.ts";
import { setWarningHook } from "../../src/warn.ts";
import { TemporaryFolder } from "../weights/fixture.ts";
import { TINY_CONFIGS, writeModel } from "./tiny_model.ts";

const CODE = "open('ran', 'w')"; // would leave a trace
const autoMap = { AutoConfig: "configuration_x.XConfig", AutoModelForCausalLM: "owner/other--modeling_x.X" };
const embedded = fromFileUrl(new URL("../../models/tensaur-tiny", import.meta.url));

/** A sound model with `more` in its config.json, and code beside it. */
async function hostile(folder: TemporaryFolder, more: object): Promise<void> {
  const config = { ...TINY_CONFIGS.llama, ...more };
  await writeModel(folder, config);
  for (const name of ["modeling_x.py", "configuration_x.py", "modeling_x.js"]) folder.write(name, CODE);
}

const keys: Record<string, object> = {
  auto_map: { auto_map: autoMap },
  trust_remote_code: { trust_remote_code: true },
  _attn_implementation_internal: { _attn_implementation_internal: "owner/kernels:attention" },
};
for (const [key, more] of Object.entries(keys)) {
  Deno.test(`planModel() ignores ${key} of config.json, and says so`, async () => {
    using folder = new TemporaryFolder();
    await hostile(folder, more);
    const heard: string[] = [], before = setWarningHook((_, message) => heard.push(message));
    try {
      const { modelType } = await planModel(folder.path);
      assertEquals([modelType, heard.length], ["llama", 1]);
      assert(heard[0]!.startsWith(`${key} in config.json is ignored`), heard[0]);
    } finally {
      setWarningHook(before);
    }
  });
}

for (const name of ["pytorch_model.bin", "model.pt", "model.ckpt"]) {
  Deno.test(`planModel() refuses weights in ${name}`, async () => {
    using folder = new TemporaryFolder();
    folder.write("config.json", TINY_CONFIGS.llama);
    folder.write(name, "cos\nsystem\n(S'true'\ntR.");
    folder.write("model.safetensors.index.json", { weight_map: { "model.norm.weight": name } });
    await assertRejects(() => planModel(folder.path), NotSupportedError, "can run code");
  });
}

Deno.test("loadTokenizer() ignores auto_map of tokenizer_config.json", async () => {
  using folder = new TemporaryFolder();
  folder.write("tokenizer.json", Deno.readTextFileSync(`${embedded}/tokenizer.json`));
  folder.write("tokenization_x.py", CODE);
  folder.write("tokenizer_config.json", { auto_map: { AutoTokenizer: ["tokenization_x.X", null] } });
  assert((await loadTokenizer(folder.path))("Once").inputIds.length > 0);
});

Deno.test("loadModel() needs no permission but to read the folder", async () => {
  using folder = new TemporaryFolder();
  await hostile(folder, Object.assign({}, ...Object.values(keys)));
  const mod = new URL("../../src/models/mod.ts", import.meta.url);
  folder.write(
    "main.ts",
    `import { loadModel } from ${JSON.stringify(mod.href)};
    using model = await loadModel(Deno.args[0]!);
    console.log(model.task);`,
  );
  const config = `--config=${fromFileUrl(new URL("../../deno.json", import.meta.url))}`;
  const permissions = ["--no-prompt", `--allow-read=${folder.path}`];
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", config, ...permissions, `${folder.path}/main.ts`, folder.path],
    cwd: folder.path,
  }).output();
  assertEquals(new TextDecoder().decode(stdout).trim(), "causal-lm", new TextDecoder().decode(stderr));
  assertEquals([...Deno.readDirSync(folder.path)].some(({ name }) => name === "ran"), false);
});
