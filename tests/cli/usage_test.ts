// The command line's help, its errors and exit codes; nothing here loads a model to its end.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { VERSION } from "../../src/cli/version.ts";
import { type RunOptions, tensaur, version } from "./run.ts";

Deno.test("VERSION is that of deno.json", () => assertEquals(VERSION, version));

const helps: [args: string[], ...texts: string[]][] = [
  [[], "Usage: tensaur", "generate", "chat", "embed", "devices", "doctor", "explain", "bench", "Exit codes"],
  [
    ["generate", "--help"],
    "--temp",
    "--top-k",
    "--min-p",
    "--repeat-penalty",
    "--seed",
    "--stop",
    "--beams",
    "--draft",
    "--lookup",
    "--json-schema",
    "--max-kv-size",
    "--prompt-cache-file",
    "Examples:",
  ],
  [["help", "chat"], "--system", "/help", "Examples:"],
  [["embed", "--help"], "--similarity", "--pooling", "Examples:"],
  [["perplexity", "--help"], "--data", "--stride", "Examples:"],
  [["--version"], VERSION],
];
for (const [args, ...texts] of helps) {
  Deno.test(`tensaur ${args.join(" ")} prints help to stdout and exits with 0`, async () => {
    const { code, stdout, stderr } = await tensaur(args);
    assertEquals([code, stderr], [0, ""]);
    for (const each of texts) assertStringIncludes(stdout, each);
  });
}

Deno.test("tensaur completion bash prints a script that bash takes, and that completes", async () => {
  const { stdout } = await tensaur(["completion", "bash"]);
  const complete = (...typed: string[]) =>
    `COMP_WORDS=(tensaur ${typed.join(" ")}); COMP_CWORD=${typed.length}; _tensaur; echo "\${COMPREPLY[*]}"`;
  const script = [stdout, complete("gen"), complete("generate", "--top"), complete("embed", "--sim")].join("\n");
  const bash = await new Deno.Command("bash", { args: ["-c", script] }).output();
  assertEquals(new TextDecoder().decode(bash.stdout), "generate\n--top-k --top-p\n--similarity\n");
});

const model = "models/tensaur-tiny";
const failures: [name: string, args: string[], code: number, stderr: string[], options?: RunOptions][] = [
  ["an unknown command", ["generat", "x"], 2, ["unknown command 'generat'", "Did you mean generate?", "hint:"]],
  ["an unknown option", ["generate", "--tmep", "1", "x"], 2, ["unknown option '--tmep'", "Did you mean --temp?"]],
  ["a temperature that is no number", ["generate", "--temp", "hot", "x"], 2, ["must be a number from 0"]],
  ["a schema in no file", ["generate", "--json-schema", "@nowhere.json", "x"], 3, ["nowhere.json"]],
  ["no beams", ["generate", "--beams", "0", "x"], 2, ["must be a whole number from 1"]],
  ["two kinds of cache", ["generate", "--max-kv-size", "64", "--prompt-cache-file", "x", "y"], 2, [
    "must stand without",
  ]],
  ["a cache with beams", ["generate", "--prompt-cache-file", "x", "--beams", "2", "y"], 2, ["without --beams"]],
  ["a draft that is not there", ["generate", "--draft", "./nowhere", "x"], 3, ['"./nowhere"', "hint:"]],
  ["no tokens", ["generate", "-n", "0", "x"], 2, ["must be a whole number from 1"]],
  ["a dtype that is none", ["generate", "--dtype", "int3", "x"], 2, ["auto, float32, float16, bfloat16"]],
  ["a dtype of the environment that is none", ["explain"], 2, ["TENSAUR_DTYPE", 'current value is "int3"'], {
    env: { TENSAUR_DTYPE: "int3" },
  }],
  ["two prompts", ["generate", "x", "-p", "y"], 2, ["there must be one prompt", "hint: Quote"]],
  ["an empty stdin", ["generate", "-p", "-"], 2, ["stdin must hold a prompt", "hint:"]],
  ["a system message without a chat", ["generate", "--system", "x", "--no-chat-template", "y"], 2, ["hint:"]],
  ["perplexity without a text", ["perplexity"], 2, ["--data"]],
  ["perplexity of a text that is not there", ["perplexity", "-d", "nowhere.txt"], 3, ["nowhere.txt"]],
  ["embed without a model", ["embed", "x"], 2, ["must be a model", "all-MiniLM-L6-v2"]],
  ["a folder that is not there", ["generate", "-m", "./nowhere", "x"], 3, ['"./nowhere"', "hint:"]],
  ["a folder without a model", ["explain", "-m", "./tests"], 3, ["config.json"]],
  ["a hub model offline", ["generate", "-m", "nobody/nothing", "--offline", "x"], 3, ["nobody/nothing", "hint:"], {
    env: { HF_HOME: "/nowhere" },
  }],
  ["a file of texts that is not there", ["embed", "-m", model, "-f", "nowhere.txt"], 3, ["nowhere.txt"]],
  ["a trace that may not be written", ["generate", "--trace", "/nowhere/t.json", "x"], 3, ["--allow-write"]],
  ["no adapter", ["generate", "x"], 4, ["WebGPU adapter must be there", "hint: Install a Vulkan driver"], {
    env: { VK_ICD_FILENAMES: "/nowhere.json", VK_DRIVER_FILES: "/nowhere.json", DENO_WEBGPU_BACKEND: "vulkan" },
  }],
  ["Dawn without --allow-ffi", ["generate", "--device-provider", "dawn", "x"], 4, ["--allow-ffi", "hint:"]],
];
for (const [name, args, want, texts, options] of failures) {
  Deno.test(`tensaur exits with ${want} and says why at ${name}`, async () => {
    const { code, stdout, stderr } = await tensaur(args, options);
    assertEquals([code, stdout], [want, ""], stderr);
    assert(/^error: /m.test(stderr), stderr);
    for (const each of texts) assertStringIncludes(stderr, each);
    assert(!/^\s+at /m.test(stderr), `a stack came: ${stderr}`);
  });
}

Deno.test("tensaur --verbose and TENSAUR_DEBUG print the stack of an error", async () => {
  const args = ["explain", "./nowhere", "--no-device"];
  for (const ran of [await tensaur([...args, "-v"]), await tensaur(args, { env: { TENSAUR_DEBUG: "1" } })]) {
    assertStringIncludes(ran.stderr, "\n    at ");
  }
});
