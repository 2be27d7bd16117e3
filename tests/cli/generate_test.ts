// `tensaur generate` as users run it.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { cachedInputIds } from "../../src/generation/cache_file.ts";
import { continuation, PROMPT, STOP, STORY } from "./goldens.ts";
import { command, tensaur, text } from "./run.ts";

Deno.test("generate --temp 0 prints torch's text, and nothing else to stdout", async () => {
  const { code, stdout, stderr } = await tensaur(["generate", "--temp", "0", "-n", "24", PROMPT]);
  assertEquals(code, 0, stderr);
  assert(stdout.startsWith(PROMPT + STORY.slice(0, 60)), stdout);
  assertMatch(
    stderr,
    /^\nprompt {6}5 tokens, [\d.]+ tok\/s\ngeneration {2}24 tokens, [\d.]+ tok\/s\nfirst token [\d.]+ s\npeak GPU .*bytes\)\n/,
  );
  assertStringIncludes(stderr, "--max-tokens");
});

Deno.test("generate --seed gives the same text twice, another seed another one; --quiet keeps stderr empty", async () => {
  const run = async (seed: string) => {
    const ran = await tensaur(["generate", "--seed", seed, "-n", "20", "-q", "--no-echo", "-p", "-"], {
      stdin: PROMPT,
    });
    assertEquals([ran.code, ran.stderr], [0, ""]);
    return ran.stdout;
  };
  const first = await run("7");
  assert(first.length > 20 && !first.startsWith(PROMPT), first);
  assertEquals(await run("7"), first);
  assert(await run("8") !== first);
});

Deno.test("generate --json prints one object with text, reason and figures", async () => {
  const { code, stdout } = await tensaur([
    ...["generate", "--json", "--temp", "0", "--stop", STOP, "--stop", "never comes"],
    ...["--dtype", "f32", "--repeat-penalty", "1", "--max-kv-size", "512", PROMPT],
  ]);
  assertEquals(code, 0);
  const result = JSON.parse(stdout);
  assertEquals(result.text, STORY.slice(0, STORY.indexOf(STOP)));
  assertEquals([result.model, result.dtype, result.prompt], ["tensaur-tiny", "float32", PROMPT]);
  assertEquals(result.finishReason, "stop");
  assertEquals(result.timing.promptTokens, 5);
  assertEquals(result.timing.generatedTokens, result.tokens.length);
  assert(result.timing.timeToFirstToken > 0 && result.timing.generationTokensPerSecond > 0);
  assert(result.timing.peakGpuBytes > 12 * 2 ** 20, "f32 weights take 12.6 MiB");
  assert(Number.isInteger(result.seed));
});

Deno.test("generate --chat uses the chat template and ends with the answer; --profile and --trace measure", async () => {
  const dir = await Deno.makeTempDir(), trace = `${dir}/trace.json`, cache = `${dir}/prompt.cache`;
  const { code, stdout, stderr } = await tensaur(
    [
      ...["generate", "--chat", "--temp", "0", "-n", "20", "--profile", "--trace", trace],
      ...["--prompt-cache-file", cache, "What is 7 plus 5?"],
    ],
    { flags: [`--allow-write=${dir}`] },
  );
  const { traceEvents } = JSON.parse(await Deno.readTextFile(trace));
  const [ids = []] = await cachedInputIds(cache) ?? [];
  assert(ids.length > 8, "the prompt's keys are kept");
  await Deno.remove(dir, { recursive: true });
  assertEquals([code, stdout], [0, `${continuation("What is 7 plus 5?")}\n`]);
  assertMatch(stderr, /^kernel +calls +total ms/m);
  assertMatch(stderr, /^matmul\w* .* +\d+\.\d %$/m);
  assert(traceEvents.some((event: { name: string }) => event.name.startsWith("rms_norm")));
});

Deno.test("generate needs no permission but --allow-read", async () => {
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-check", "--allow-read", "cli.ts", "generate", "--temp", "0", "-n", "4", PROMPT],
    cwd: new URL("../../", import.meta.url),
  }).output().then(text);
  assertEquals(code, 0);
  assert(stdout.length > PROMPT.length + 4 && `${PROMPT}${STORY}`.startsWith(stdout.trimEnd()), stdout);
});

Deno.test("generate at Ctrl-C keeps the text that came and exits with 130", async () => {
  const child = command(["generate", "--temp", "0", "--ignore-eos", "-n", "1000", PROMPT]).spawn();
  await child.stdin.close();
  const stderr = new Response(child.stderr).text();
  let seen = "";
  for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
    if (seen.length < 40 && seen.length + piece.length >= 40) child.kill("SIGINT");
    seen += piece;
  }
  const { code } = await child.status;
  assertEquals(code, 130);
  assert(seen.startsWith(PROMPT + STORY.slice(0, 20)) && seen.endsWith("\n"), seen);
  const [, tokens = ""] = /generation +(\d+) tokens/.exec(await stderr) ?? [];
  assert(Number(tokens) > 0 && Number(tokens) < 900, `${tokens} tokens came`);
});

Deno.test("generate at Ctrl-C before the first token exits with 130 and no stack", async () => {
  const child = command(["generate", "-n", "5", PROMPT]).spawn();
  await child.stdin.close();
  setTimeout(() => child.kill("SIGINT"), 150);
  const { code, stderr } = text(await child.output());
  assertEquals([code, stderr], [130, ""]);
});

Deno.test("generate ends in silence when its reader has gone", async () => {
  const child = command(["generate", "--temp", "0", "--ignore-eos", "-n", "1000", PROMPT]).spawn();
  await child.stdin.close();
  const stderr = new Response(child.stderr).text();
  for await (const _ of child.stdout) break; // closes the pipe
  assertEquals([(await child.status).code, await stderr], [0, ""]);
});

Deno.test("generate --json-schema prints a document that the schema takes, from an argument or a file", async () => {
  const schema = JSON.stringify({ type: "object", properties: { tame: { type: "boolean" } }, required: ["tame"] });
  const file = await Deno.makeTempFile();
  await Deno.writeTextFile(file, schema);
  for (const given of [schema, `@${file}`]) {
    const args = ["generate", "-q", "--no-echo", "-n", "20", "--json-schema", given, PROMPT];
    const { code, stdout, stderr } = await tensaur(args);
    assertEquals([code, stderr], [0, ""]);
    assertEquals(typeof JSON.parse(stdout).tame, "boolean");
  }
  await Deno.remove(file);
  const wrong = await tensaur(["generate", "--json-schema", '{"type":"nothing"}', PROMPT]);
  assertEquals(wrong.code, 2);
  assertStringIncludes(wrong.stderr, 'Unsupported type "nothing"');
});

Deno.test("generate --draft and --lookup print the same text, --beams a search's", async () => {
  const plain = ["generate", "--temp", "0", "-n", "16", "-q", PROMPT], wanted = await tensaur(plain);
  assertEquals(wanted.code, 0, wanted.stderr);
  for (const flags of [["--draft", "models/tensaur-draft"], ["--lookup=3"]]) {
    const { code, stdout, stderr } = await tensaur([...plain, ...flags]);
    assertEquals([code, stdout, stderr], [0, wanted.stdout, ""]);
  }
  const beams = await tensaur(["generate", "-n", "6", "--beams", "2", "--json", PROMPT]);
  const { text: found, timing, tokens } = JSON.parse(beams.stdout);
  assert(found.length > 4 && timing.generatedTokens === tokens.length, beams.stderr);
  const again = await tensaur(["generate", "-n", "6", "--beams", "2", "--json", PROMPT]);
  assertEquals(JSON.parse(again.stdout).text, found, "beams do not draw");
  const both = await tensaur(["generate", "--beams", "2", "--lookup", "--", PROMPT]);
  assertEquals(both.code, 2);
  assertStringIncludes(both.stderr, "assisted generate");
});
