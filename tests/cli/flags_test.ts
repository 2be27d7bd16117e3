// The flags that say how tokens are chosen, in `tensaur generate` and `tensaur chat`.
import { assert, assertEquals } from "@std/assert";
import { chatCommand } from "../../src/cli/chat.ts";
import { generateCommand } from "../../src/cli/generate.ts";
import { type DraftFlags, type SamplingFlags, samplingOf } from "../../src/cli/options.ts";
import type { GenerationOptions } from "../../src/generation/mod.ts";
import { continuation } from "./goldens.ts";
import { tensaur } from "./run.ts";

type Flags = SamplingFlags & DraftFlags;

const TABLE: [args: string[], options: GenerationOptions][] = [
  [["--temp", "0.5"], { temperature: 0.5, doSample: true }],
  [["--temp", "0"], { temperature: undefined, doSample: false }],
  [["--top-p", "0.9"], { topP: 0.9, doSample: true }],
  [["--top-k", "7"], { topK: 7, doSample: true }],
  [["--min-p", "0.05"], { minP: 0.05, doSample: true }],
  [["--repeat-penalty", "1.2"], { repetitionPenalty: 1.2, doSample: undefined }],
  [["--seed", "11"], { seed: 11 }],
  [["--beams", "3"], { numBeams: 3, doSample: false }],
  [["--beams", "3", "--temp", "1"], { numBeams: 3, temperature: 1, doSample: true }],
  [["--lookup"], { promptLookupNumTokens: 10 }],
  [["--lookup=4"], { promptLookupNumTokens: 4 }],
  [["--json-schema", '{"type":"null"}'], { jsonSchema: '{"type":"null"}' }],
  [["--stop", "a", "--stop", "b"], { stopStrings: ["a", "b"] }],
  [["--ignore-eos"], { eosTokenId: null }],
  [[], { temperature: undefined, doSample: undefined, numBeams: undefined, stopStrings: undefined }],
];

/** What a command makes of its arguments, without running. */
async function flagsOf(command: ReturnType<typeof chatCommand>, args: string[]): Promise<Flags> {
  command.action(() => {});
  await command.parseAsync(args, { from: "user" });
  return command.opts<Flags>();
}

for (const make of [generateCommand, chatCommand]) {
  const name = make().name();
  for (const [args, want] of TABLE) {
    Deno.test(`${name} ${args.join(" ")} sets the option of that name`, async () => {
      const options = samplingOf(await flagsOf(make(), args));
      const got = Object.fromEntries(Object.keys(want).map((key) => [key, options[key as keyof GenerationOptions]]));
      assertEquals(got, want as Record<string, unknown>);
    });
  }
  Deno.test(`${name} --draft names a model`, async () => {
    assertEquals((await flagsOf(make(), ["--draft", "some/model"])).draft, "some/model");
  });
}

/** The answers of a chat to "What is 7 plus 5?". */
async function answers(...args: string[]): Promise<{ content: string; finishReason: string }[]> {
  const stdin = "What is 7 plus 5?\n", { code, stdout, stderr } = await tensaur(["chat", "--json", ...args], { stdin });
  assertEquals(code, 0, stderr);
  return stdout.trim().split("\n").map((line) => JSON.parse(line));
}

const QUESTION = "What is 7 plus 5?";

Deno.test("chat: --draft and --temp 0 give torch's answer, and --stop ends it", async () => {
  const want = continuation(QUESTION), stop = want.split(" ").at(-1)!;
  const args = ["--temp", "0", "-n", "20", "--draft", "models/tensaur-draft"];
  assertEquals((await answers(...args))[0]!.content, want);
  const [cut] = await answers(...args, "--stop", stop, "--seed", "3");
  assertEquals([cut!.content, cut!.finishReason], [want.slice(0, want.indexOf(stop)), "stop"]);
});

Deno.test("chat: --top-k 1, whatever else is drawn by, is --temp 0; --json-schema and --beams are followed", async () => {
  const warped = ["--top-k", "1", "--top-p", "0.9", "--min-p", "0.01", "--seed", "5", "--repeat-penalty", "1"];
  assertEquals((await answers(...warped, "-n", "20"))[0]!.content, continuation(QUESTION));
  const schema = JSON.stringify({ type: "array", items: { type: "boolean" }, minItems: 1, maxItems: 2 });
  const [{ content } = { content: "" }] = await answers("--json-schema", schema, "--beams", "2", "-n", "16");
  assert((JSON.parse(content) as unknown[]).every((each) => typeof each === "boolean"), content);
});
