/** Chat templates of real models, which a Python package carries with llama.cpp's sources. They are fetched, never committed. */
const root = new URL("../../", import.meta.url);
const cache = new URL(".deno/test-cache/", root); // ignored by git
const PACKAGE = "llama-cpp-python==0.3.36";
const DEADLINE = 600_000; // ms

// Downloads the source package (pip builds nothing of it but its metadata) and unpacks the templates alone.
const fetchTemplates = `
import pathlib, subprocess, sys, tarfile
folder, package = pathlib.Path(sys.argv[2]), sys.argv[3]
options = ["--no-deps", "--no-binary", ":all:", "--quiet", "--disable-pip-version-check", "--retries", "1"]
subprocess.run([sys.executable, "-m", "pip", "download", *options, "--dest", folder, package], check=True)
for path in list(folder.iterdir()):
    with tarfile.open(path) as sources:
        for member in sources:
            name = pathlib.PurePosixPath(member.name)
            if name.parent.name == "templates" and name.suffix == ".jinja":
                (folder / name.name).write_bytes(sources.extractfile(member).read())
    path.unlink()
`;

// Renders as transformers does; each line of the input is a template or a job for one.
const render = `
import json, sys
from datetime import datetime
from jinja2.exceptions import TemplateError
from transformers.utils import chat_template_utils as chat
class Fixed(datetime):
    @classmethod
    def now(cls, tz=None): return datetime(2026, 1, 5, 13, 4, 9)
chat.datetime = Fixed
templates = {}
for line in open(sys.argv[1], encoding="utf-8", newline="\\n").read().split("\\n"):
    job = json.loads(line)
    if "source" in job:
        templates[job["name"]] = job["source"]
        continue
    name, messages, variables = job["name"], job["messages"], job["variables"]
    try:
        (text,), _ = chat.render_jinja_template([messages], chat_template=templates[name], **variables)
        print(json.dumps({"text": text}))
    except Exception as error:
        print(json.dumps({"raised" if type(error) is TemplateError else "error": str(error)}))
`;

/** The moment that it is for the templates. */
export const NOW = new Date(2026, 0, 5, 13, 4, 9);

/** What a template is rendered with. */
export interface Job {
  /** Name of the template. */
  name: string;
  /** The conversation. */
  messages: Record<string, unknown>[];
  /** What else it sees, by Python's names. */
  variables: Record<string, unknown>;
}

/** A text, what the template itself raised, or another error. */
export type Rendered = { text: string } | { raised: string } | { error: string };

/** The templates by name, fetched if they are not there yet and `fetch` allows it; or why they cannot be had. */
export async function realTemplates(fetch: boolean): Promise<Map<string, string> | { missing: string }> {
  const folder = new URL("templates/", cache).pathname;
  const isThere = () => Deno.stat(folder).then(() => true, () => false);
  if (!await isThere()) {
    if (!fetch) return { missing: "they are fetched by the full tests" };
    await Deno.mkdir(cache, { recursive: true });
    const partial = await Deno.makeTempDir({ dir: cache.pathname });
    const result = await python(fetchTemplates, "", [partial, PACKAGE]);
    if ("missing" in result) {
      await Deno.remove(partial, { recursive: true });
      return result;
    }
    await Deno.rename(partial, folder); // at once, so that half of them are never seen
  }
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return new Map(names.map((name) => [name.replace(/\.jinja$/, ""), Deno.readTextFileSync(folder + name)]));
}

/** Why Python cannot render here, if it cannot. */
export async function missingPython(): Promise<string | undefined> {
  const result = await python("import jinja2; from transformers.utils import chat_template_utils", "", []);
  return "missing" in result ? result.missing : undefined;
}

/** What Python makes of `jobs`, in one process. */
export async function pythonRenders(
  templates: Map<string, string>,
  jobs: readonly Job[],
): Promise<Rendered[]> {
  const lines = [...Array.from(templates, ([name, source]) => ({ name, source })), ...jobs];
  const result = await python(render, lines.map((line) => JSON.stringify(line)).join("\n"), []);
  if ("missing" in result) throw new Error(result.missing);
  return result.text.trimEnd().split("\n").map((line) => JSON.parse(line));
}

/** Runs `code` with the path of a file that holds `input`, then `args`. */
async function python(code: string, input: string, args: string[]): Promise<{ text: string } | { missing: string }> {
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, input);
    const command = new Deno.Command("python3", {
      args: ["-c", code, file, ...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal: AbortSignal.timeout(DEADLINE),
    });
    const { success, stdout, stderr } = await command.output();
    const text = new TextDecoder();
    if (success) return { text: text.decode(stdout) };
    return { missing: text.decode(stderr).trim().split("\n").at(-1) || "python3 failed" };
  } catch (error) {
    return { missing: (error as Error).message };
  } finally {
    await Deno.remove(file);
  }
}
