/** Closures that stand for an option which is set too (semantics: G-27, G-45). No GPU. */
import { assertEquals, assertThrows } from "@std/assert";
import { ValueError } from "../../src/errors.ts";
import { DEFAULTS } from "../../src/generation/config_fields.ts";
import { withoutReplaced } from "../../src/generation/custom_options.ts";
import type { CallOptions } from "../../src/generation/options.ts";
import type { GenerationConfigFields } from "../../src/generation/mod.ts";
import { setWarningHook } from "../../src/warn.ts";

type Options = Partial<GenerationConfigFields & CallOptions>;

const custom = (option: keyof GenerationConfigFields) => Object.assign(function mine() {}, { option });
const criterion = Object.assign(() => false, { option: "maxTime" as const });

const TWICE: [options: Options, kind: string, option: string, value: string, name: string][] = [
  [
    { repetitionPenalty: 1.3, logitsProcessor: [() => {}, custom("repetitionPenalty")] },
    "logits processor",
    "repetitionPenalty",
    "1.3",
    "mine",
  ],
  [{ doSample: true, topK: 7, logitsProcessor: [custom("topK")] }, "logits processor", "topK", "7", "mine"],
  [
    { badWordsIds: [[3]], logitsProcessor: [custom("badWordsIds")] },
    "logits processor",
    "badWordsIds",
    "[[3]]",
    "mine",
  ],
  [{ maxTime: 9, stoppingCriteria: [criterion] }, "stopping criteria", "maxTime", "9", "anonymous"],
];

/** The options, and what was warned of. */
function resolved(options: Options): [Options, string[]] {
  const heard: string[] = [], before = setWarningHook((category, text) => heard.push(`${category}: ${text}`));
  try {
    return [withoutReplaced({ ...DEFAULTS, ...options }), heard];
  } finally {
    setWarningHook(before);
  }
}

for (const [options, kind, option, value, name] of TWICE) {
  Deno.test(`a ${kind} for ${option}, which is set too, is refused; by the profile "hf5" it takes its place`, () => {
    const error = assertThrows(() => resolved(options), ValueError);
    assertEquals(
      error.message,
      `A custom ${kind} of type ${option} with values ${name} has been passed to \`generate()\`, but it has already been ` +
        `created with the values ${value}. ${value} has been created by passing the corresponding arguments to generate ` +
        `or by the model's config default values. If you just want to change the default values of ${kind} consider ` +
        `passing them as arguments to \`generate()\` instead of using a custom ${kind}.`,
    );
    const [o, heard] = resolved({ ...options, profile: "hf5" });
    assertEquals(heard, [
      `UserWarning: A custom ${kind} of type ${option} has been passed to \`generate()\`, but it was also created in ` +
      `\`generate()\`, given its parameterization. The custom ${option} will take precedence. Please check the docstring ` +
      `of ${option} to see related \`generate()\` flags.`,
    ]);
    assertEquals(o[option as "maxTime"], option === "topK" ? 0 as never : DEFAULTS[option as "maxTime"]);
  });
}

Deno.test("closures without an option, and those whose option does nothing, go with everything", () => {
  const fine: Options[] = [
    { repetitionPenalty: 1.3, logitsProcessor: [() => {}] },
    { logitsProcessor: [custom("repetitionPenalty")] },
    { topP: 0.5, logitsProcessor: [custom("topP")] }, // greedy search does not look at it
    { stoppingCriteria: [criterion] },
  ];
  for (const options of fine) assertEquals(resolved(options), [{ ...DEFAULTS, ...options }, []]);
});
