// The parts of the command line that need neither a process nor a GPU.
import { InvalidArgumentError } from "commander";
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { spread } from "../../src/cli/bench.ts";
import { type ChatState, isCommand, runCommand } from "../../src/cli/chat_commands.ts";
import { readMessage } from "../../src/cli/chat_input.ts";
import type { Conversation } from "../../src/cli/conversation.ts";
import { similarities } from "../../src/cli/embed.ts";
import { exitCodeOf } from "../../src/cli/exit_code.ts";
import { number, parseBytes, samplingOf, whole } from "../../src/cli/options.ts";
import { ProgressBar } from "../../src/cli/progress_bar.ts";
import { readSentenceConfig } from "../../src/cli/sentence_config.ts";
import { StopFilter } from "../../src/cli/stop_filter.ts";
import { csvTable, markdownTable, textTable } from "../../src/cli/table.ts";
import * as errors from "../../src/errors.ts";

const stops: [pieces: string[], stops: string[], shown: string[], end: string][] = [
  [["a", "b", "c"], [], ["a", "b", "c"], ""],
  [["one st", "op two"], ["stop"], ["one ", ""], ""],
  [["one st", "ar"], ["stop"], ["one ", "star"], ""],
  [["aaa", "b"], ["aab"], ["a", ""], ""], // the held back "aa" is the one that counts
  [["xstopyend"], ["end", "stop"], ["x"], ""], // the first of two
  [["aba", "c"], ["b", "abac"], ["a", ""], ""], // the one that is complete first
  [["a", "b"], ["b", "ab"], ["", ""], ""], // the longer of two
  [["ab"], ["bc", "abc"], [""], "ab"], // held back in vain
  [["stop"], ["stop"], [""], ""],
  [["ne", "ver", "\n", "\n"], ["\n\n"], ["ne", "ver", "", ""], ""],
];
for (const [pieces, list, shown, end] of stops) {
  Deno.test(`StopFilter ends ${JSON.stringify(pieces)} before ${JSON.stringify(list)}`, () => {
    const filter = new StopFilter(list);
    assertEquals(pieces.map((piece) => filter.put(piece)), shown);
    assertEquals(filter.end(), end);
  });
}

/** Where a text ends that is looked at after each letter. */
function endOf(text: string, stops: readonly string[]): number {
  for (let n = 1; n <= text.length; n++) {
    const ends = stops.filter((stop) => text.slice(0, n).endsWith(stop)).map((stop) => n - stop.length);
    if (ends.length) return Math.min(...ends);
  }
  return -1;
}

Deno.test("StopFilter shows the text before the first stop, in whatever pieces it comes", () => {
  const letters = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 20 });
  const stop = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 4 });
  fc.assert(fc.property(fc.array(letters, { maxLength: 6 }), fc.array(stop, { maxLength: 3 }), (pieces, list) => {
    const filter = new StopFilter(list), text = pieces.join(""), end = endOf(text, list);
    const shown = pieces.map((piece) => filter.put(piece)).join("") + filter.end();
    assertEquals(shown, end === -1 ? text : text.slice(0, end));
    assertEquals(filter.stopped, end !== -1);
  }));
});

Deno.test("ProgressBar shows nothing of short work, redraws a terminal's line, and adds plain lines elsewhere", () => {
  for (const terminal of [true, false]) {
    let now = 0, out = "";
    const bar = new ProgressBar({ write: (text) => out += text, terminal, columns: () => 60, now: () => now });
    const at = (ms: number, loaded: number) => {
      now = ms;
      out = "";
      bar.update({ phase: "download", label: "owner/name", loaded, total: 4 * 2 ** 20 });
      return out;
    };
    assertEquals([at(0, 0), at(200, 2 ** 20)], ["", ""]);
    const line = at(4000, 2 * 2 ** 20);
    assert(line.includes("downloading ████████████░░░░░░░░░░░░  50 %  2 MiB of 4 MiB"), line);
    assertEquals([line.startsWith("\r\x1b[K"), line.endsWith("\n")], [terminal, !terminal]);
    if (terminal) assert(line.length < 60 + "\r\x1b[K".length, "one line");
    assertEquals(at(4050, 3 * 2 ** 20), "", "not so soon again");
    out = "";
    bar.clear();
    assertEquals(out, terminal ? "\r\x1b[K" : "");
    now = 10_000;
    for (const [ms, loaded] of [[0, 1], [4000, 2]] as const) {
      now = 10_000 + ms;
      bar.update({ phase: "compile", label: "matmul F16", loaded, total: 0 });
    }
    assert(out.includes("compiling kernels: 2  matmul F16"), out);
  }
});

const sizes: [text: string, bytes: number | undefined][] = [
  ["1", 1],
  ["512", 512],
  ["512MiB", 512 * 2 ** 20],
  ["4G", 4 * 2 ** 30],
  ["4gib", 4 * 2 ** 30],
  ["1.5 GB", 1.5e9],
  ["2k", 2048],
  ["0", undefined],
  ["-1", undefined],
  ["", undefined],
  ["1e3", undefined],
  ["4 GiB left", undefined],
];
for (const [text, bytes] of sizes) {
  Deno.test(`parseBytes() reads ${JSON.stringify(text)} as ${bytes ?? "an error"}`, () => {
    if (bytes === undefined) assertThrows(() => parseBytes(text), InvalidArgumentError, "512MiB");
    else assertEquals(parseBytes(text), bytes);
  });
}

Deno.test("whole() and number() take what lies in their range only", () => {
  assertEquals([whole(0)("0"), whole(1)("20"), number(0)("0.7"), number(0, 1)("1"), number(0)("1e-3")], [
    0,
    20,
    0.7,
    1,
    0.001,
  ]);
  for (const text of ["-1", "1.5", "x", "", "1e3", "9007199254740993"]) {
    assertThrows(() => whole(0)(text), InvalidArgumentError);
  }
  for (const text of ["-0.1", "1.1", "x", "", " ", "Infinity", "NaN"]) {
    assertThrows(() => number(0, 1)(text), InvalidArgumentError);
  }
});

Deno.test("samplingOf() is greedy at temperature 0, draws when told how, and else leaves it to the model", () => {
  assertEquals(samplingOf({ temp: 0, topK: 5 }).doSample, false);
  assertEquals(samplingOf({ topK: 5 }).doSample, true);
  assertEquals(samplingOf({ seed: 3 }), { ...samplingOf({ seed: 3 }), doSample: undefined, seed: 3 });
  assertEquals(samplingOf({ ignoreEos: true }).eosTokenId, null);
  assertEquals([{ beams: 1 }, { beams: 4 }, { beams: 4, temp: 1 }].map((o) => samplingOf(o).doSample), [
    undefined,
    false,
    true,
  ]);
  assertEquals([{ lookup: true as const }, { lookup: 3 }, {}].map((o) => samplingOf(o).promptLookupNumTokens), [
    10,
    3,
    undefined,
  ]);
});

const codes: [error: unknown, code: number][] = [
  [new errors.ValueError("x"), 2],
  [new errors.ModelPathError("x"), 3],
  [new errors.DownloadError("x"), 3],
  [new errors.TokenizerError("x"), 3],
  [new errors.TemplateError("x"), 3],
  [new errors.NotSupportedError("x"), 3],
  [new Deno.errors.NotFound("x"), 3],
  [new errors.GpuError("x"), 4],
  [new errors.DeviceLostError("x"), 4],
  [new errors.OutOfMemoryError("x"), 4],
  [new errors.AbortError("x"), 130],
  [new errors.NumericError("x"), 1],
  [new Error("x"), 1],
  ["x", 1],
  [new Deno.errors.BrokenPipe("x"), 0],
];
for (const [error, code] of codes) {
  Deno.test(`exitCodeOf() gives ${code} for ${error instanceof Error ? error.constructor.name : error}`, () => {
    assertEquals(exitCodeOf(error), code);
  });
}

const messages: [lines: string[], messages: (string | undefined)[]][] = [
  [["a", "b"], ["a", "b", undefined]],
  [['"""a', "b", 'c"""', "d"], ["a\nb\nc", "d", undefined]],
  [['"""', "a", "", "b", '"""'], ["a\n\nb", undefined]],
  [['"""a b"""'], ["a b", undefined]],
  [['"""a', "b"], ["a\nb", undefined]], // ends within the message
  [['say """x"""'], ['say """x"""', undefined]],
];
for (const [lines, want] of messages) {
  Deno.test(`readMessage() reads ${JSON.stringify(lines)}`, async () => {
    const rest = [...lines], got: (string | undefined)[] = [];
    for (const _ of want) got.push(await readMessage(() => Promise.resolve(rest.shift()), "> "));
    assertEquals(got, want);
  });
}

Deno.test("runCommand() sets, clears, explains, saves and leaves", async () => {
  let cleared = 0;
  const conversation = {
    system: "x",
    messages: [{ role: "user", content: "Hi" }],
    clear: () => cleared++,
  } as unknown as Conversation;
  const state: ChatState = { conversation, sampling: {}, assistance: {} };
  const say = async (message: string) => await runCommand(message, state) ?? "left";
  assertEquals(await Promise.all(["/bye", "/exit", "/quit"].map(say)), ["left", "left", "left"]);
  assertEquals(await say("/set temp 0.5"), "Set temp to 0.5.");
  assertEquals(await say("/set top-k five"), "It must be a whole number from 0.");
  assertEquals(state.sampling, { temp: 0.5 });
  assertEquals(await say("/set temp"), "Set temp back to its default.");
  assertEquals(state.sampling, { temp: undefined });
  assert((await say("/set constructor 1")).includes("must be one of temp"));
  await say("/system You are\na fox.");
  assertEquals([conversation.system, cleared], ["You are\na fox.", 1]);
  await say("/clear");
  assertEquals(cleared, 2);
  assert((await say("/help")).includes("/system"));
  assert((await say("/nothing")).includes("/help"));
  assert((await say("/save")).includes("--out"));
  state.out = await Deno.makeTempFile();
  assert((await say("/save")).startsWith("Wrote 2 messages to "));
  assertEquals(JSON.parse(await Deno.readTextFile(state.out)).map((m: { role: string }) => m.role), ["system", "user"]);
  await Deno.remove(state.out);
  assert((await say("/save /nowhere/x.json")).startsWith("Cannot write /nowhere/x.json"));
  assertEquals(["/", "/ x", "//", "a /b", "/x"].map(isCommand), [false, false, false, false, true]);
});

Deno.test("similarities() are cosines, and 0 for a vector of zeros", () => {
  const matrix = similarities([[2, 0], [1, 1], [0, 0]]);
  assertAlmostEquals(matrix[0]![1]!, Math.SQRT1_2);
  assertEquals([matrix[0]![0], matrix[2]], [1, [0, 0, 0]]);
});

Deno.test("spread() gives least, mean and sample deviation", () => {
  assertEquals(spread([1, 3]), { min: 1, mean: 2, sd: Math.SQRT2 });
  assertEquals(spread([5]), { min: 5, mean: 5, sd: 0 });
});

Deno.test("csvTable() quotes what it must", () => {
  assertEquals(csvTable([{ a: 1, b: 'x,"y"' }, { a: undefined, b: "" }]), 'a,b\n1,"x,""y"""\n,');
});

Deno.test("textTable() and markdownTable() align", () => {
  assertEquals(textTable([["a", "1"], ["bcd", "22"]]), "a     1\nbcd  22");
  assertEquals(markdownTable([["x", "y"], ["a", "1"]]), "| x | y |\n| --- | ---: |\n| a | 1 |");
});

const transformer = { type: "sentence_transformers.models.Transformer", path: "" };
const pooling = { type: "sentence_transformers.models.Pooling", path: "1_Pooling" };
const normalize = { type: "sentence_transformers.models.Normalize", path: "2_Normalize" };
const sentences: [name: string, files: Record<string, unknown>, want: unknown][] = [
  ["nothing", {}, { pooling: "mean", normalize: true, maxLength: undefined }],
  ["mean and a length", {
    "modules.json": [transformer, pooling, normalize],
    "1_Pooling/config.json": { pooling_mode_mean_tokens: true, pooling_mode_cls_token: false },
    "sentence_bert_config.json": { max_seq_length: 128 },
  }, { pooling: "mean", normalize: true, maxLength: 128 }],
  ["cls, not normalized", {
    "modules.json": [transformer, pooling],
    "1_Pooling/config.json": { pooling_mode_mean_tokens: false, pooling_mode_cls_token: true },
  }, { pooling: "cls", normalize: false, maxLength: undefined }],
  ["the newer form", { "modules.json": [pooling], "1_Pooling/config.json": { pooling_mode: "cls" } }, {
    pooling: "cls",
    normalize: false,
    maxLength: undefined,
  }],
  ["max pooling", {
    "modules.json": [pooling],
    "1_Pooling/config.json": { pooling_mode_max_tokens: true },
  }, errors.NotSupportedError],
  ["two poolings", {
    "modules.json": [pooling],
    "1_Pooling/config.json": { pooling_mode_mean_tokens: true, pooling_mode_cls_token: true },
  }, errors.NotSupportedError],
  ["a dense layer", {
    "modules.json": [{ type: "sentence_transformers.models.Dense", path: "2_Dense" }],
  }, errors.NotSupportedError],
  ["a path out of the folder", {
    "modules.json": [{ type: "sentence_transformers.models.Pooling", path: "../x" }],
  }, errors.ModelPathError],
  ["modules that are no list", { "modules.json": { type: "x" } }, errors.ModelFormatError],
  ["modules without a type", { "modules.json": [null] }, errors.ModelFormatError],
];
for (const [name, files, want] of sentences) {
  Deno.test(`readSentenceConfig() reads ${name}`, async () => {
    const dir = await Deno.makeTempDir();
    try {
      for (const [path, value] of Object.entries(files)) {
        await Deno.mkdir(`${dir}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
        await Deno.writeTextFile(`${dir}/${path}`, JSON.stringify(value));
      }
      if (typeof want !== "function") assertEquals<unknown>(await readSentenceConfig(dir), want);
      else await assertRejects(() => readSentenceConfig(dir), want as typeof errors.TensaurError);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}
