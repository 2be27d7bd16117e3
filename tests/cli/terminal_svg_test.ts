import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { drawTerminal, parseAnsi, wrap } from "../../tools/terminal_svg.ts";

Deno.test("parseAnsi() and wrap() keep styles and break lines at spaces", () => {
  const pieces = parseAnsi("\x1b[1mOnce upon\x1b[22m a\ntime\r\x1b[K\x1b[2m.\x1b[22m");
  assertEquals(wrap(pieces, 8), [
    [{ text: "Once ", style: "bold" }],
    [{ text: "upon", style: "bold" }, { text: " a", style: "" }],
    [{ text: "time", style: "" }, { text: ".", style: "dim" }],
  ]);
});

Deno.test("drawTerminal() escapes text", () => {
  assertStringIncludes(
    drawTerminal([[{ text: "a<b&c", style: "dim" }]], "x"),
    '<tspan class="dim">a&lt;b&amp;c</tspan>',
  );
});

Deno.test("docs/generate.svg shows a run of ./tensaur", async () => {
  const svg = await Deno.readTextFile(new URL("../../docs/generate.svg", import.meta.url));
  assertStringIncludes(svg, "./tensaur generate");
  assert(/generation +\d+ tokens, [\d.]+ tok\/s/.test(svg));
});
