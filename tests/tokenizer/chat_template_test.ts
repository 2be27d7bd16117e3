// chat templates print what Python prints, and cannot hang or kill the process.
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { TemplateError, ValueError } from "../../src/errors.ts";
import { renderChatTemplate } from "../../src/tokenizer/chat_template.ts";
import { type ChatMessage, createTokenizer, loadTokenizer } from "../../src/tokenizer/mod.ts";
import { workerSource } from "../../src/tokenizer/template_worker.ts";
import { DEFAULT_MODEL, defaultTokenizerJson } from "./fixtures.ts";

const json = await defaultTokenizerJson();

/** `text` that doubles `times` times in a template. */
const doubled = (times: number) =>
  `{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(${times}) %}{% set ns.x = ns.x + ns.x %}{% endfor %}`;
const hostile: Record<string, string> = {
  "a range of 100 million": "{{ range(100000000)|length }}",
  "an endless range": "{{ range(0, 10, 0)|length }}",
  "nested loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
  "loops six deep": "{% for a in 'x' * 1 %}{% endfor %}" + "{% for i in range(999) %}".repeat(6) +
    "{{ i }}" + "{% endfor %}".repeat(6),
  "20,000 parentheses": `{{ ${"(".repeat(20_000)} }}`,
  "5,000 nested conditions": "{% if true %}".repeat(4500) + "x",
  "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
  "a string of 10 TB": `${doubled(40)}{{ ns.x|length }}`,
  "a list of 2^30 items":
    "{% set ns = namespace(x=[1]) %}{% for i in range(30) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
  "5 MB of output": "{% for i in range(100000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}",
  "a replace that explodes": `${doubled(16)}{{ ns.x|replace('a', ns.x) }}`,
  "a huge indentation": "{{ 'a\nb'|indent(500000000, true)|length }}",
  "JSON with a huge indentation": "{{ [1]|tojson(indent=1000000000) }}",
  "sorting in a loop": "{% for i in range(100000) %}{% set x = range(100000)|sort %}{% endfor %}",
  "splitting in a loop": `${doubled(18)}{% for i in range(100000) %}{% set x = ns.x.split('a') %}{% endfor %}`,
  "joining in a loop": "{% for i in range(100000) %}{% set x = range(100000)|join('aaaaaaaaaa') %}{% endfor %}",
  "a source of more than 64 KB": "x".repeat(64 * 1024 + 1),
  "a string and a list": "{{ 'a' + [1] }}",
  "an open expression": "{{ 1 ",
  "an open loop": "{% for i in range(3) %}x",
  "an unknown function": "{{ open('/etc/passwd').read() }}",
  "an unknown filter": "{{ 'x'|attr('__class__') }}",
  "the function constructor": "{{ ''.constructor.constructor('return 1')() }}",
  "prototype pollution": "{% set messages.__proto__.x = 1 %}",
  "a file of the machine": "{% include '/etc/passwd' %}",
  "an import": "{% import 'os' as os %}",
  "a call of a number": "{{ 1() }}",
  "raise_exception": "{{ raise_exception('no') }}",
};

// What a thread costs to start here and now; the promise is 1.5 s beside it.
const started = performance.now();
await renderChatTemplate("{{ 1 }}", {});
const limit = 1500 + 3 * (performance.now() - started);

for (const [title, source] of Object.entries(hostile)) {
  Deno.test(`renderChatTemplate() ends with TemplateError on ${title}`, async () => {
    const start = performance.now();
    await assertRejects(() => renderChatTemplate(source, { messages: [] }), TemplateError);
    assert(performance.now() - start < limit, `${performance.now() - start} ms`);
  });
}

Deno.test("renderChatTemplate() leaves the thread free meanwhile", async () => {
  let ticks = 0;
  const clock = setInterval(() => ticks++, 20);
  await assertRejects(() => renderChatTemplate(hostile["nested loops"]!, {}), TemplateError);
  clearInterval(clock);
  assert(ticks > 5, `the event loop ran ${ticks} times in a second`);
});

Deno.test("renderChatTemplate() stops a template that turns hostile once it is trusted", async () => {
  const source =
    "{% for m in messages %}{% for i in range(100000) %}{% for j in range(m.n) %}{% endfor %}{% endfor %}" +
    "{% endfor %}done";
  assertEquals(await renderChatTemplate(source, { messages: [] }), "done");
  const start = performance.now();
  await assertRejects(() => renderChatTemplate(source, { messages: [{ n: 100_000 }] }), TemplateError, "runs longer");
  assert(performance.now() - start < limit);
});

const V = {
  x: [1, "a'b", null, true, { "k": 1.5, 'q"': "\n\x01é" }],
  n: null,
  t: true,
  s: "abc",
  messages: [{ role: "user", content: "hé" }],
  d: { b: 1, a: [] },
};
// What Jinja2 with transformers' settings prints for the same variables.
const printed: [source: string, text: string][] = [
  ["{{ x }}", "[1, \"a'b\", None, True, {'k': 1.5, 'q\"': '\\n\\x01é'}]"],
  ["{{ n }}|{{ t }}|{{ undefined_thing }}|{{ d }}", "None|True||{'b': 1, 'a': []}"],
  ["{{ n ~ s ~ 1 ~ 2.0 ~ [n] }}", "Noneabc12.0[None]"],
  ["{{ [1, 'a']|string }}", "[1, 'a']"],
  ["{{ \"it's\" ~ '\"' }}{{ [\"it's\", 'both \\' \"'] }}", "it's\"[\"it's\", 'both \\' \"']"],
  ["{% for c in s %}[{{ c }}]{% endfor %}", "[a][b][c]"],
  [
    "{% for m in messages %}{% for c in m.content %}{% if c.type == 'image' %}I{% endif %}.{% endfor %}{% endfor %}",
    "..",
  ],
  ["{{ x|tojson }}", '[1, "a\'b", null, true, {"k": 1.5, "q\\"": "\\n\\u0001é"}]'],
  ["{{ d|tojson(indent=2) }}", '{\n  "b": 1,\n  "a": []\n}'],
  ["  {% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb"],
  ["{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}", "4"],
  ["{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, b=none) }}", "121None"],
  ["{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "02"],
  ["{% generation %}x{% endgeneration %}{{ strftime_now('%%') }}", "x%"],
  ["{{ [1] == [1] }} {{ x != [] }} {{ d == {'b': 1, 'a': []} }} {{ s == 'abc' }}", "True True True True"],
  [
    "{{ undefined_thing == none }} {{ 1 == '1' }} {{ true == 1 }} {{ '' == 0 }} {{ none == none }}",
    "False False True False True",
  ],
  [
    "{{ ' \\n a \\n'.strip('\\n ') }}|{{ '\\n a'.lstrip('\\n') }}|{{ 'ab'.rstrip('b') }}|{{ ' a '.strip() }}",
    "a| a|a|a",
  ],
  ["{{ [1]|trim }}{% for x in undefined_thing %}x{% endfor %}", "[1]"],
  [
    "{{ none in [1, none] }} {{ [1] in [[1], 2] }} {{ 'a' not in ['a'] }} {{ true in [1] }} {{ 'k' in d }} {{ 'b' in d }}",
    "True True False True False True",
  ],
  [
    "{{ x|upper }} {{ none|lower }} {{ 'aBC dE'|capitalize }} {{ undefined_thing|upper }}",
    "[1, \"A'B\", NONE, TRUE, {'K': 1.5, 'Q\"': '\\N\\X01\u00c9'}] none Abc de ",
  ],
  ["{{ undefined_thing|length }} {{ '\ud83d\ude42'|length }} {{ none|map(attribute='a')|list }}", "0 1 []"],
  ["{{ [3, 1, 2]|min }} {{ [3, 1, 2]|max }} {{ [1, none, true]|join('-') }} {{ ['a']|join }}", "1 3 1-None-True a"],
  ["{{ '{}-{}'.format(1, none) }} {{ '{1}{0}{x}{{}}'.format('a', 'b', x='c') }}", "1-None bac{}"],
  [
    "{% for a, b in [('x', 1), ['y', 2]] %}{{ a }}{{ b }}{% endfor %}{% for c in s if c != 'b' %}{{ c }}{% endfor %}",
    "x1y2ac",
  ],
  [
    "{{ d is iterable }} {{ undefined_thing is iterable }} {{ 1 is iterable }} {{ d is sequence }} {{ true is number }} {{ none is not iterable }}",
    "True True False True True True",
  ],
  [
    "[{{ ' \\u0085\\ufeffa\\u001f '|trim }}] [{{ '\\u0085 a'.strip() }}] [{{ ' a '.strip(none) }}]",
    "[\ufeffa] [a] [a]",
  ],
  [
    "{{ ['\\u200b\\u00a0', '\\ue000', '\ud835\udcd0\u00e9', '\\u2028'] }}",
    "['\\u200b\\xa0', '\\ue000', '\ud835\udcd0\u00e9', '\\u2028']",
  ],
  ["{{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ -1 }} {{ not true }}", "3 3.5 8 -1 False"],
];
for (const [source, text] of printed) {
  Deno.test(`renderChatTemplate() prints as Python does: ${source.slice(0, 50).replaceAll("\n", " ")}`, async () => {
    assertEquals(await renderChatTemplate(source, V, true), text);
  });
}

Deno.test("strftime_now tells today's date in English", async () => {
  const date = new Date();
  const text = await renderChatTemplate("{{ strftime_now('%d %b %Y') }}", {}, true);
  assert(text.endsWith(` ${date.getFullYear()}`) && /^\d\d [A-Z][a-z]{2} \d{4}$/.test(text), text);
});

function tokenizerWith(chat_template: unknown) {
  return createTokenizer(json, { config: { bos_token: "<|begin_of_text|>", chat_template } });
}
const hi: ChatMessage[] = [{ role: "user", content: "Hi" }];
const asText = { tokenize: false } as const;

Deno.test("tokenizer.applyChatTemplate() raises what the template raises", async () => {
  const tokenizer = tokenizerWith("{{ raise_exception('Roles must alternate') }}");
  const error = await assertRejects(() => tokenizer.applyChatTemplate(hi), TemplateError);
  assertEquals(error.message, "Roles must alternate");
});

Deno.test("tokenizer.applyChatTemplate() gives the template what transformers gives it", async () => {
  const keys = "{{ [messages, tools, documents, add_generation_prompt, bos_token, eos_token is defined, more] }}";
  const text = await tokenizerWith(keys).applyChatTemplate([{ role: "user", content: null, name: "n" }], {
    ...asText,
    tools: [{ name: "f" }],
    templateVariables: { more: 1 },
  });
  const want = "[[{'role': 'user', 'name': 'n'}], [{'name': 'f'}], None, False, '<|begin_of_text|>', False, 1]";
  assertEquals(text, want); // a key whose value is null is left out, as in transformers 5
});

Deno.test("tokenizer.applyChatTemplate() gives reasoning the names that templates read", async () => {
  const tokenizer = tokenizerWith("{{ messages|tojson }}");
  const messages = [{ role: "assistant", reasoning: "r" }, { role: "assistant", thinking: "t", reasoning: "r" }];
  assertEquals(JSON.parse(await tokenizer.applyChatTemplate(messages, asText)), [
    { thinking: "r", role: "assistant", reasoning: "r", reasoning_content: "r" },
    { thinking: "t", role: "assistant", reasoning: "r", reasoning_content: "t" },
  ]);
});

Deno.test("tokenizer.applyChatTemplate() chooses among named templates", async () => {
  const named = [{ name: "default", template: "D" }, { name: "tool_use", template: "T" }, {
    name: "rag",
    template: "R",
  }];
  const tokenizer = tokenizerWith(named);
  assertEquals(await tokenizer.applyChatTemplate(hi, asText), "D");
  assertEquals(await tokenizer.applyChatTemplate(hi, { ...asText, tools: [] }), "T");
  assertEquals(await tokenizer.applyChatTemplate(hi, { ...asText, chatTemplate: "rag" }), "R");
  assertEquals(
    await tokenizer.applyChatTemplate(hi, { ...asText, chatTemplate: "own {{ bos_token }}" }),
    "own <|begin_of_text|>",
  );
  tokenizer.chatTemplate = "new";
  assertEquals(await tokenizer.applyChatTemplate(hi, asText), "new");
  const two = tokenizerWith(named.slice(1));
  assertStringIncludes((await assertRejects(() => two.applyChatTemplate(hi), TemplateError)).message, "tool_use, rag");
  await assertRejects(() => tokenizerWith(null).applyChatTemplate(hi), TemplateError, "it has none");
});

Deno.test("tokenizer.applyChatTemplate() continues the final message", async () => {
  const source = "{% for m in messages %}<{{ m.content if m.content is string else m.content[-1].text }}>{% endfor %}";
  const tokenizer = tokenizerWith(source);
  const open = { ...asText, continueFinalMessage: true };
  assertEquals(await tokenizer.applyChatTemplate([...hi, { role: "assistant", content: "Yes, " }], open), "<Hi><Yes, ");
  const parts = { role: "assistant", content: [{ type: "text", text: "So" }] };
  assertEquals(await tokenizer.applyChatTemplate([parts], open), "<So");
  assertEquals(parts.content[0]!.text, "So");
  const trims = tokenizerWith("{{ messages[-1].content|trim }}.");
  assertEquals(await trims.applyChatTemplate([{ role: "assistant", content: " a b " }], open), "a b");
  await assertRejects(() => tokenizerWith("x").applyChatTemplate(hi, open), TemplateError, "print it whole");
  await assertRejects(() => tokenizer.applyChatTemplate([{ role: "user" }], open), ValueError);
  await assertRejects(() => tokenizer.applyChatTemplate(hi, { ...open, addGenerationPrompt: true }), ValueError);
  await assertRejects(() => tokenizer.applyChatTemplate([]), ValueError);
});

Deno.test("renderChatTemplate() refuses variables that are no plain data, or too much of it", async () => {
  const loop: Record<string, unknown> = {};
  loop.self = loop;
  await assertRejects(() => renderChatTemplate("x", { loop }), TemplateError, "plain JSON");
  await assertRejects(() => renderChatTemplate("x", { n: 1n }), TemplateError, "plain JSON");
  await assertRejects(() => renderChatTemplate("x", { s: "x".repeat(2 ** 24) }), TemplateError, "at most");
});

Deno.test("applyChatTemplate() needs read permission for the model's folder and nothing else", async () => {
  const load = new URL("../../src/tokenizer/mod.ts", import.meta.url).href;
  const code = `import { loadTokenizer } from ${JSON.stringify(load)};
    const tokenizer = await loadTokenizer(${JSON.stringify(DEFAULT_MODEL)});
    console.log(await tokenizer.applyChatTemplate([{ role: "user", content: "Hi" }], { tokenize: false }));`;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(file, code);
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const args = ["run", "--no-prompt", "--no-check", "--config", config, `--allow-read=${DEFAULT_MODEL}`, file];
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  await Deno.remove(file);
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assertEquals(text(stdout), "<|begin_of_text|><|im_start|>user\nHi<|im_end|>\n\n", text(stderr));
});

Deno.test("workerSource() imports the version of the template engine that deno.json names", async () => {
  const { imports } = JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url)));
  assertStringIncludes(workerSource(), `"${imports["@huggingface/jinja"]}"`);
});

Deno.test("loadTokenizer() takes chat_template.jinja before the template of tokenizer_config.json", async () => {
  const folder = await Deno.makeTempDir();
  for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
    await Deno.copyFile(`${DEFAULT_MODEL}/${file}`, `${folder}/${file}`);
  }
  await Deno.writeTextFile(`${folder}/chat_template.jinja`, "J{{ bos_token }}");
  const tokenizer = await loadTokenizer(folder);
  assertEquals(await tokenizer.applyChatTemplate(hi, asText), "J<|begin_of_text|>");
  await Deno.remove(folder, { recursive: true });
});
