/** damaged GGUF files read here are read by Python's gguf, and alike; and those that a coverage-guided loop finds. */
import { assert, assertEquals } from "@std/assert";
import { ModelFormatError, NotSupportedError } from "../../src/errors.ts";
import { parseGgufHeader } from "../../src/weights/gguf.ts";
import { random } from "../helpers.ts";
import { coverageLoop } from "./coverage_loop.ts";
import { seed, TemporaryFolder } from "./fixture.ts";
import { fileOf, mutated } from "./gguf_fixture.ts";

const full = Deno.env.get("TENSAUR_TEST_FULL") === "1";
const FILES = full ? 2000 : 300, SECONDS = full ? 60 : 1;

const script = `
import sys, json, hashlib, logging
logging.disable(logging.CRITICAL)
try:
    from gguf import GGUFReader
except ImportError:
    sys.exit(1)
for path in sys.stdin.read().splitlines():
    try:
        tensors = GGUFReader(path).tensors
        print(json.dumps([[t.name, t.tensor_type.name, [int(n) for n in reversed(t.shape)],
                           hashlib.sha256(t.data.tobytes()).hexdigest()] for t in tensors]))
    except Exception as error:
        print(json.dumps(repr(error)))
`;

/** What Python says of the files: its tensors, or why it refuses them; undefined without Python's gguf. */
async function pythonReads(paths: readonly string[]): Promise<unknown[] | undefined> {
  const child = new Deno.Command("python3", {
    args: ["-c", script],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const output = child.output(), writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(paths.join("\n"))).then(() => writer.close()).catch(() => {});
  const { success, stdout } = await output;
  return success ? new TextDecoder().decode(stdout).trimEnd().split("\n").map((line) => JSON.parse(line)) : undefined;
}

/** What is read here; undefined where the file is refused. */
async function reading(bytes: Uint8Array<ArrayBuffer>): Promise<unknown[] | undefined> {
  try {
    const { tensors } = parseGgufHeader(bytes, bytes.length, "x.gguf")!;
    return await Promise.all(
      tensors.values().map(async ({ name, type, shape, start, end }) => {
        const hash = await crypto.subtle.digest("SHA-256", bytes.slice(start, end));
        return [name, type, shape, new Uint8Array(hash).toHex()];
      }),
    );
  } catch (error) {
    assert(error instanceof ModelFormatError || error instanceof NotSupportedError, `${error}`);
  }
}

Deno.test(`parseGgufHeader() reads ${FILES} damaged files as Python does, or refuses them`, async () => {
  using folder = new TemporaryFolder();
  const good = await fileOf(), next = random(79), paths: string[] = [], ours: unknown[] = [];
  for (let i = 0; i < FILES; i++) {
    const bytes = i === 0 ? good : mutated(good, next), read = await reading(bytes);
    if (!read) continue;
    await Deno.writeFile(`${folder.path}/${i}.gguf`, bytes);
    paths.push(`${folder.path}/${i}.gguf`);
    ours.push(read);
  }
  assert(paths.length > FILES / 20, `${paths.length} of ${FILES} were read`);
  const theirs = await pythonReads(paths);
  if (!theirs) return console.warn("skipped: python3 with gguf is not there");
  for (const [i, read] of ours.entries()) assertEquals(theirs[i], read, paths[i]);
});

Deno.test(`parseGgufHeader() refuses or reads what a coverage-guided loop of ${SECONDS} s finds (seed ${seed})`, async () => {
  const end = performance.now() + SECONDS * 1000, good = await fileOf();
  const { runs, ranges } = await coverageLoop((input) => {
    try {
      const header = parseGgufHeader(input, input.length, "x.gguf")!;
      for (const { start, end } of header.tensors.values()) assert(start <= end && end <= input.length);
    } catch (error) {
      assert(error instanceof ModelFormatError || error instanceof NotSupportedError, `${error}`);
    }
  }, {
    first: [good],
    done: (runs) => runs > 100 && performance.now() > end, // a busy machine takes longer
    seed,
    scripts: /src\/weights\/gguf(_cursor)?\.ts$/,
  });
  assert(ranges > 15, `${runs} inputs reached ${ranges} ranges`);
});
