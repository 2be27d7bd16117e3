/**
 * A picture of a terminal in which ./tensaur ran: `deno run -A tools/terminal_svg.ts docs/generate.svg generate "Once upon a time"`.
 *
 * Runs the command, takes what it prints with its colours, and draws that: nothing in the picture is written by hand.
 *
 * @module
 */

/** A piece of a line in one style. */
interface Piece {
  text: string;
  style: string;
}

const COLUMNS = 88, CELL = { width: 8.43, height: 19 }, MARGIN = 20, TITLE = 34;
const STYLES: Readonly<Record<string, string>> = {
  1: "bold",
  2: "dim",
  31: "red",
  32: "green",
  33: "yellow",
  36: "cyan",
};
const CSS =
  `text { font: 14px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d7dae0; white-space: pre; }
.bold { font-weight: bold; fill: #ffffff; } .dim { fill: #8b93a3; } .red { fill: #ff7b72; } .green { fill: #7ee787; }
.yellow { fill: #f2cc60; } .cyan { fill: #79c0ff; } .prompt { fill: #7ee787; }`;

/** Text with SGR codes as pieces; "0", "22" and "39" end a style. */
export function parseAnsi(text: string): Piece[] {
  const pieces: Piece[] = [];
  let style = "";
  // deno-lint-ignore no-control-regex -- it is what terminals are told in
  for (const part of text.replaceAll(/\x1b\[K|\r/g, "").split(/(\x1b\[[\d;]*m)/)) {
    const code = part.startsWith("\x1b[") ? part.slice(2, -1) : undefined;
    if (code !== undefined) style = STYLES[code] ?? "";
    else if (part) pieces.push({ text: part, style });
  }
  return pieces;
}

/** Lines of at most `columns` characters, broken at spaces. */
export function wrap(pieces: readonly Piece[], columns: number): Piece[][] {
  const lines: Piece[][] = [[]];
  let used = 0;
  for (const { text, style } of pieces) {
    for (const word of text.split(/(\n| +)/).filter(Boolean)) {
      const breaks = word === "\n" || (used + word.length > columns && word.trim() !== "");
      if (breaks) {
        lines.push([]);
        used = 0;
      }
      if (word === "\n") continue;
      const line = lines.at(-1)!, last = line.at(-1);
      if (last?.style === style) last.text += word;
      else line.push({ text: word, style });
      used += word.length;
    }
  }
  return lines;
}

/** Draws `lines` as a window with `title`. */
export function drawTerminal(lines: readonly Piece[][], title: string): string {
  const width = Math.ceil(COLUMNS * CELL.width + 2 * MARGIN);
  const height = Math.ceil(lines.length * CELL.height + TITLE + 2 * MARGIN);
  const rows = lines.map((pieces, i) => {
    const y = Math.round(TITLE + MARGIN + (i + 0.6) * CELL.height);
    const spans = pieces.map(({ text, style }) =>
      style ? `<tspan class="${style}">${escape(text)}</tspan>` : escape(text)
    );
    return `<text xml:space="preserve" x="${MARGIN}" y="${y}">${spans.join("")}</text>`;
  });
  const lights = ["#ff5f57", "#febc2e", "#28c840"].map((color, i) =>
    `<circle cx="${MARGIN + 20 * i}" cy="${TITLE / 2 + 3}" r="6" fill="${color}"/>`
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<title>${escape(title)}</title>
<style>${CSS}</style>
<rect width="${width}" height="${height}" rx="10" fill="#16181d"/>
${lights.join("\n")}
${rows.join("\n")}
</svg>
`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** A word as one would type it. */
function typed(word: string): string {
  return /^[\w./=-]+$/.test(word) ? word : `"${word}"`;
}

async function main([file, ...args]: string[]): Promise<number> {
  if (file === undefined || args.length === 0) {
    console.error('Usage: deno run -A tools/terminal_svg.ts FILE.svg generate "Once upon a time"');
    return 2;
  }
  const root = new URL("../", import.meta.url);
  const script = './tensaur "$@" --color always 2>&1'; // one stream, so that the order is that of a terminal
  const command = new Deno.Command("sh", { args: ["-c", script, "sh", ...args], cwd: root, stdin: "null" });
  const { code, stdout } = await command.output();
  const output = new TextDecoder().decode(stdout).trimEnd();
  if (code !== 0) {
    console.error(output);
    return code;
  }
  const line = `./tensaur ${args.map(typed).join(" ")}`;
  const first: Piece[] = [{ text: "$ ", style: "prompt" }, { text: `${line}\n`, style: "" }];
  await Deno.writeTextFile(file, drawTerminal(wrap([...first, ...parseAnsi(output)], COLUMNS), line));
  return 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
