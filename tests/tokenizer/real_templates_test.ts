/** the chat templates of real models print what transformers prints, in chosen conversations and in random ones. */
import fc from "fast-check";
import { assert, assertEquals } from "@std/assert";
import { TemplateError } from "../../src/errors.ts";
import { renderChat } from "../../src/tokenizer/chat.ts";
import { seed } from "../weights/fixture.ts";
import { type Job, missingPython, NOW, pythonRenders, realTemplates, type Rendered } from "./real_templates.ts";

const FULL = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const RANDOM = 1000;

// Templates that do not render alike, and why; the others do, without exception.
const DIFFERENT: Record<string, string> = {
  "ByteDance-Seed-OSS": "a dict with whole numbers for keys is refused",
  "llama-cpp-deepseek-r1": "what map gives can be printed as JSON: in Python it is a generator, which cannot",
  "meetkai-functionary-medium-v3.1": "safe marks nothing: in Python what is added to a marked text is escaped for HTML",
};

const tool = (name: string, properties: object) => ({
  type: "function",
  function: {
    name,
    description: "The weather of a place.\nSays \"sunny\" or 'wet'.",
    parameters: { type: "object", properties, required: Object.keys(properties).slice(0, 1) },
  },
});
const weather = tool("get_weather", {
  city: { type: "string", description: "City & country <b>" },
  unit: { type: "string", enum: ["c", "f"] },
  days: { type: ["integer", "null"], default: 1 },
});
const call = (args: unknown, id = "call_abc1") => ({
  id,
  type: "function",
  function: { name: "get_weather", arguments: args },
});
const answer = (content: string, id = "call_abc1") => ({
  role: "tool",
  name: "get_weather",
  tool_call_id: id,
  content,
});
const user = (content: unknown) => ({ role: "user", content });
const assistant = (content: unknown, more: object = {}) => ({ role: "assistant", content, ...more });
const system = { role: "system", content: " Be kind.\n" };

const chosen: [messages: Record<string, unknown>[], variables?: Record<string, unknown>][] = [
  [[user("Hi")]],
  [[system, user('  It\'s "me"\n<b>&é🙂 ')]],
  [[user("A"), assistant("B"), user("C"), assistant("D\n"), user("E")]],
  [[system, user("A"), assistant("B")]],
  [[user("A"), user("B")]],
  [[user([{ type: "text", text: "What" }, { type: "text", text: " now?" }])]],
  [[system, user("Weather?")], { tools: [weather] }],
  [[
    user("Weather?"),
    assistant("", { tool_calls: [call({ city: "Zürich", days: 2, deep: { a: [1, null, true, "x"] } })] }),
    answer("sunny"),
    assistant("It is sunny."),
    user("Thanks"),
  ], { tools: [weather] }],
  [[
    user("Weather?"),
    { role: "assistant", tool_calls: [call({ city: "Zürich" }), call({ city: "Bern" }, "call_def3")] },
    answer('{"t": 1}'),
    answer("wet", "call_def3"),
  ], { tools: [weather] }],
  [[user("Weather?"), assistant("Let me see", { tool_calls: [call('{"city": "Bern"}')] }), answer("wet")]],
  [[user("1+1?"), assistant("<think>\nhm\n</think>\n\n2"), user("2+2?")]],
  [[
    user("1+1?"),
    assistant("2", { reasoning_content: "hm\n" }),
    user("2+2?"),
    assistant("4", { reasoning: "hm" }),
  ]],
  [[user("Q")], { documents: [{ title: "T", text: "X" }, { title: "U", text: "Y\n" }] }],
];

// Assigned, or not, in every Unicode of these years: Python escapes what it does not know.
const characters = [
  "a",
  "B",
  "0",
  " ",
  "\n",
  "\t",
  "\r",
  "\\",
  "'",
  '"',
  "{",
  "}",
  "%",
  "<",
  "&",
  "|",
  "é",
  "İ",
  "ß",
  "ǆ",
  "日",
]
  .concat([
    "🙂",
    "👩\u200d👧",
    "\u0301",
    "\x00",
    "\x7f",
    "\x85",
    "\xa0",
    "\xad",
    "\u2028",
    "\u3000",
    "\ufeff",
    "\ue000",
  ])
  .concat(["\u0378", "\u{e0041}", "\u200b", "𝓐", "ﬁ", "½", "٣", "ά", "Σ"]);
const text = fc.oneof(
  fc.constantFrom(
    "",
    "Hi",
    " a ",
    "\n\nb\n",
    'it\'s "x" \\',
    "<b>&amp;</b>",
    "é🙂日本",
    "<think>\nhm\n</think>\n2",
    "{{ x }}",
  ),
  fc.string({ unit: fc.constantFrom(...characters), maxLength: 12 }),
);
const content = fc.oneof(
  { arbitrary: text, weight: 5 },
  { arbitrary: fc.array(text.map((text) => ({ type: "text", text })), { minLength: 1, maxLength: 2 }), weight: 1 },
);
const value = fc.oneof(text, fc.integer(), fc.boolean(), fc.constant(null), fc.array(fc.integer(), { maxLength: 2 }));
const args = fc.dictionary(fc.constantFrom("city", "days", "a b", "é", '"'), value, { maxKeys: 3 });
const turn = fc.record({
  content,
  answer: content,
  reasoning: fc.option(text, { freq: 3 }),
  calls: fc.option(fc.array(args, { minLength: 1, maxLength: 2 }), { freq: 3 }),
  result: text,
});
const conversation = fc.record({
  system: fc.option(text),
  turns: fc.array(turn, { minLength: 1, maxLength: 3 }),
  open: fc.boolean(),
  prompt: fc.boolean(),
  tools: fc.boolean(),
  thinking: fc.option(fc.boolean()),
});

function messagesOf({ system, turns, open }: typeof conversation extends fc.Arbitrary<infer T> ? T : never) {
  const messages: Record<string, unknown>[] = system === null ? [] : [{ role: "system", content: system }];
  for (const [i, turn] of turns.entries()) {
    messages.push(user(turn.content));
    if (open && i === turns.length - 1) break;
    if (turn.calls) {
      const ids = turn.calls.map((_, k) => `call_${i}ab${k}`);
      messages.push(assistant("", { tool_calls: turn.calls.map((args, k) => call(args, ids[k])) }));
      for (const id of ids) messages.push(answer(turn.result, id));
    }
    messages.push(assistant(turn.answer, turn.reasoning === null ? {} : { reasoning_content: turn.reasoning }));
  }
  return messages;
}

const special = { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>", pad_token: "<pad>" };

async function ours(source: string, { messages, variables }: Job): Promise<Rendered> {
  const { add_generation_prompt: addGenerationPrompt, tools, documents, ...templateVariables } = variables;
  const options = { addGenerationPrompt, tools, documents, templateVariables } as Parameters<typeof renderChat>[3];
  try {
    return { text: await renderChat(source, messages as never, {}, options, true) };
  } catch (error) {
    assert(error instanceof TemplateError, `${error}`);
    return error.hint ? { raised: error.message } : { error: error.message };
  }
}

/** Where two renderings part. */
function difference(...both: [Rendered, Rendered]): string {
  const [a, b] = both.map((each) => JSON.stringify(each)) as [string, string];
  let at = 0;
  while (a[at] === b[at]) at++;
  return `\n  ${a.slice(Math.max(0, at - 80), at + 80)}\n  ${b.slice(Math.max(0, at - 80), at + 80)} in Python`;
}

/** Renders all jobs both ways; a job that neither can render counts as equal, and what is raised has the same words. */
async function compare(templates: Map<string, string>, jobs: Job[]): Promise<{ texts: number; others: number }> {
  const theirs = await pythonRenders(templates, jobs);
  const { now } = Date;
  Date.now = () => NOW.getTime();
  let texts = 0;
  const different = new Map<string, string>();
  try {
    for (const [i, job] of jobs.entries()) {
      const [a, b] = [await ours(templates.get(job.name)!, job), theirs[i]!];
      if ("text" in b) texts++;
      if ("error" in a && "error" in b || JSON.stringify(a) === JSON.stringify(b)) continue;
      if (!different.has(job.name)) different.set(job.name, difference(a, b));
    }
  } finally {
    Date.now = now;
  }
  const unknown = [...different].filter(([name]) => !DIFFERENT[name]).map((each) => each.join(": ")).join("\n\n");
  assertEquals(unknown, "");
  return { texts, others: jobs.length - texts };
}

const templates = await realTemplates(FULL);
const missing = FULL ? await missingPython() : "the full tests compare them";
if ("missing" in templates || missing !== undefined) {
  Deno.test({
    name: `skipped: templates of real models (${"missing" in templates ? templates.missing : missing})`,
    ignore: true,
    fn() {},
  });
} else {
  const names = [...templates.keys()];
  const alike = names.filter((name) => !DIFFERENT[name]).length;

  Deno.test(`renderChat() equals transformers: ${alike} of ${names.length} real templates in ${chosen.length} conversations`, async () => {
    assert(alike >= 53);
    const jobs = names.flatMap((name) =>
      chosen.flatMap(([messages, variables]) =>
        [true, false].map((add_generation_prompt): Job => {
          return { name, messages, variables: { ...special, ...variables, add_generation_prompt } };
        })
      )
    );
    const { texts } = await compare(templates, jobs);
    assert(texts > jobs.length * 0.7, `${texts} of ${jobs.length} are texts`);
  });

  Deno.test(`renderChat() equals transformers: ${RANDOM} random renders (seed ${seed})`, async () => {
    const known = names.filter((name) => !DIFFERENT[name]);
    const jobs = fc.sample(conversation, { numRuns: RANDOM, seed }).map((chat, i): Job => ({
      name: known[i % known.length]!,
      messages: messagesOf(chat),
      variables: {
        ...special,
        add_generation_prompt: chat.prompt,
        ...(chat.tools ? { tools: [weather, tool("f", {})] } : {}),
        ...(chat.thinking === null ? {} : { enable_thinking: chat.thinking }),
      },
    }));
    const { texts } = await compare(templates, jobs);
    assert(texts > RANDOM * 0.7, `${texts} of ${RANDOM} are texts`);
  });
}
