// The charsmap of a real SentencePiece model is checked by goldens_test.ts, a small one's results by parts_test.ts.
import { assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { TokenizerError } from "../../src/errors.ts";
import { CharsMap } from "../../src/tokenizer/precompiled.ts";
import { partsOfPython } from "./fixtures.ts";

const { normalizers } = await partsOfPython();
const charsmap = normalizers.find(({ config }) => config.type === "Precompiled")!.config.precompiled_charsmap as string;

function normalize(map: CharsMap, text: string): string {
  return text.replaceAll(new RegExp(map.pattern, "gu"), (part) => map.normalize(part));
}

const cases: [title: string, text: string, python: string][] = [
  ["CR LF is one cluster, of which the known beginning stays", "a\r\nb\n\r\n", "a b\n "],
  ["CR LF after a character that is not ASCII is one too", "é\r\né\r", "é é "],
  ["a combining mark joins the letter before it", "xe\u0301x", "xéx"],
  ["U+0000 ends no text", "H\0H", "h\0h"],
  ["a cluster of six bytes is looked up character by character", "👩\u200d👩", "w\u200dw"],
  ["a byte order mark stays", "\ufeffH", "\ufeffh"],
];
for (const [title, text, python] of cases) {
  Deno.test(`CharsMap.normalize() equals Python: ${title}`, () => {
    assertEquals(normalize(new CharsMap(charsmap, "test"), text), python);
  });
}

Deno.test("CharsMap of damaged bytes is refused, or reads nothing outside of them", () => {
  const bytes = Array.from(atob(charsmap), (c) => c.charCodeAt(0));
  const damage = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(damage, fc.nat(bytes.length), fc.string({ unit: "binary", maxLength: 20 }), (changes, cut, text) => {
      const damaged = [...bytes];
      for (const [at, byte] of changes) damaged[at] = byte;
      const base64 = btoa(String.fromCharCode(...damaged.slice(0, cut % 3 === 0 ? cut : undefined)));
      try {
        const map = new CharsMap(base64, "test");
        assertEquals(normalize(map, text).length <= text.length * Math.max(1, map.longest), true);
      } catch (error) {
        if (!(error instanceof TokenizerError)) throw error;
      }
    }),
    { seed: 5, numRuns: 500 },
  );
});
