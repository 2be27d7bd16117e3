// ./tensaur among stand-ins for npm, pip, apt-get and deno, each of which writes down how it was called.
import { assert, assertEquals } from "@std/assert";

const root = new URL("../", import.meta.url);
const lavapipe = "usr/share/vulkan/icd.d/lvp_icd.json";
const debian12 = "ID=debian\nVERSION_CODENAME=bookworm\n";
const ubuntu = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n";
const backports = "deb http://deb.debian.org/debian bookworm-backports main\n";

const fakeDeno = (version: string) =>
  `case $1 in
  --version) echo "deno ${version} (stable, release)" ;;
  eval) [ -e "\${VK_ICD_FILENAMES:-$TENSAUR_SYSROOT/gpu_answers}" ] ;;
  run) echo "run $* with \${VK_ICD_FILENAMES:-any driver}" ;;
esac`;
const tools: Record<string, string> = {
  deno: fakeDeno("2.9.6"),
  deno28: fakeDeno("2.8.14"),
  deno210: fakeDeno("2.10.0"),
  deno3: fakeDeno("3.0.0-rc.1+abc"),
  npm: `mkdir -p node_modules/@deno/linux-x64-glibc && cp "$FAKES/deno" node_modules/@deno/linux-x64-glibc/deno`,
  brokenNpm: "echo 'npm error network' >&2; exit 1",
  python3: `[ "$2 $3" = "pip --version" ] && exit; mkdir -p "$6/bin" && cp "$FAKES/deno" "$6/bin/deno"`,
  python3WithoutPip: "exit 1",
  id: "echo 1000",
  rootId: "echo 0",
  uname: "echo Linux",
  darwin: "echo Darwin",
  sleep: "",
  "apt-get": `case " $* " in
  *" update "*) if [ -e "$TENSAUR_SYSROOT/locked" ]; then rm "$TENSAUR_SYSROOT/locked"; echo "E: Could not get lock" >&2; exit 100; fi ;;
  *" install "*) mkdir -p "$TENSAUR_SYSROOT/usr/share/vulkan/icd.d" && : >"$TENSAUR_SYSROOT/${lavapipe}" ;;
esac
for a; do case $a in *SourceList=*) echo "source $(tail -n 1 "\${a#*=}")" >>"$LOG" ;; esac; done`,
  aptWithoutBackports: `case "$*" in *-t*) exit 100 ;; *install*) mkdir -p "$TENSAUR_SYSROOT/usr/share/vulkan/icd.d"
  : >"$TENSAUR_SYSROOT/${lavapipe}" ;; esac`,
  brokenApt: "echo 'E: Unable to locate package' >&2; exit 100",
};
const system = ["bash", "cat", "chmod", "cp", "dirname", "grep", "mkdir", "mv", "readlink", "rm", "sed", "sh", "tail"];

interface World {
  /** Command on PATH → the stand-in that serves it. */
  path: Record<string, string>;
  /** Files of the machine, by path from its root. */
  files?: Record<string, string>;
  env?: Record<string, string>;
  args?: string[];
}

/** A machine of `world`; `run()` starts ./tensaur on it, and `log()` gives what was called since the last time. */
async function machine(world: World) {
  const top = await Deno.makeTempDir();
  for (const folder of ["bin", "fakes", "sys/etc", "checkout", "home"]) {
    await Deno.mkdir(`${top}/${folder}`, { recursive: true });
  }
  await Deno.copyFile(new URL("tensaur", root), `${top}/checkout/tensaur`);
  await Deno.copyFile(new URL("deno.json", root), `${top}/checkout/deno.json`);
  const write = (path: string, name: string, body: string) =>
    Deno.writeTextFile(path, `#!/bin/sh\necho "${name} $*" >>"$LOG"\n${body}\n`, { mode: 0o755 });
  await write(`${top}/fakes/deno`, "deno", tools.deno!);
  for (const name of system) await Deno.symlink(await which(name), `${top}/bin/${name}`);
  for (const [name, tool] of Object.entries({ id: "id", uname: "uname", sleep: "sleep", ...world.path })) {
    await write(`${top}/bin/${name}`, name, tools[tool]!);
  }
  for (const [path, text] of Object.entries(world.files ?? {})) {
    await Deno.mkdir(`${top}/sys/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${top}/sys/${path}`, text);
  }
  const env = {
    PATH: `${top}/bin`,
    FAKES: `${top}/fakes`,
    TENSAUR_SYSROOT: `${top}/sys`,
    LOG: `${top}/log`,
    HOME: `${top}/home`,
  };
  return {
    top,
    async run(...args: string[]) {
      await Deno.writeTextFile(`${top}/log`, "");
      const { code, stdout, stderr } = await new Deno.Command(`${top}/checkout/tensaur`, {
        args,
        clearEnv: true,
        env: { ...env, ...world.env },
        stdin: "null",
      }).output();
      const text = (bytes: Uint8Array) =>
        new TextDecoder().decode(bytes).replaceAll(top, "TOP").replaceAll(/\.\d+(?=\.incomplete)/g, ".PID");
      return {
        code,
        stdout: text(stdout),
        stderr: text(stderr),
        log: (await Deno.readTextFile(`${top}/log`)).replaceAll(top, "TOP"),
      };
    },
    [Symbol.asyncDispose]: () => Deno.remove(top, { recursive: true }),
  };
}

async function which(name: string): Promise<string> {
  const { stdout } = await new Deno.Command("sh", { args: ["-c", `command -v ${name}`] }).output();
  return new TextDecoder().decode(stdout).trim();
}

const withLavapipe = { [lavapipe]: "{}" };
const cli = "TOP/checkout/cli.ts generate";
const cases: [
  name: string,
  world: World,
  want: { code?: number; stdout?: string[]; stderr?: string[]; log?: string[] },
][] = [
  ["uses deno of PATH and lavapipe where no GPU is", { path: { deno: "deno" }, files: withLavapipe }, {
    stdout: [cli, `with TOP/sys/${lavapipe}`],
  }],
  ["takes deno 2.10", { path: { deno: "deno210" }, files: withLavapipe }, { stdout: [cli] }],
  ["takes deno 3", { path: { deno: "deno3" }, files: withLavapipe }, { stdout: [cli] }],
  ["installs deno from npm", { path: { npm: "npm", python3: "python3" }, files: withLavapipe }, {
    stdout: [cli],
    stderr: ["installing deno 2.9.6 from npm"],
    log: ["npm install", "--ignore-scripts", "deno@2.9.6"],
  }],
  ["installs deno from PyPI", { path: { python3: "python3" }, files: withLavapipe }, {
    stdout: [cli],
    stderr: ["installing deno 2.9.6 from PyPI"],
    log: ["python3 -m pip install", "deno==2.9.6"],
  }],
  ["gives up where npm fails and python has no pip", {
    path: { python3: "python3WithoutPip", npm: "brokenNpm" },
    files: withLavapipe,
  }, {
    code: 1,
    stderr: ["npm error network", "Deno 2.9 or newer must be on PATH"],
  }],
  ["goes on with PyPI where npm fails", { path: { npm: "brokenNpm", python3: "python3" }, files: withLavapipe }, {
    stdout: [cli],
    stderr: ["from npm", "npm error network", "from PyPI"],
  }],
  ["leaves a deno that is too old", { path: { deno: "deno28", npm: "npm" }, files: withLavapipe }, {
    stdout: [cli],
    stderr: ["2.8.14", "older than 2.9", "installing deno"],
  }],
  ["says what to install where nothing can install deno", { path: {} }, {
    code: 1,
    stderr: ["Install Deno", "npm or pip"],
  }],
  ["lets the loader choose where a GPU answers", {
    path: { deno: "deno" },
    files: { ...withLavapipe, "dev/dri/renderD128": "", gpu_answers: "" },
  }, { stdout: ["with any driver"] }],
  ["takes lavapipe where the GPU does not answer, and says so", {
    path: { deno: "deno" },
    files: { ...withLavapipe, "dev/dri/renderD128": "" },
  }, { stdout: [`with TOP/sys/${lavapipe}`], stderr: ["does not answer"] }],
  ["needs no driver of its own on macOS", { path: { deno: "deno", uname: "darwin" } }, { stdout: ["with any driver"] }],
  ["installs lavapipe from backports as root on Debian 12", {
    path: { deno: "deno", id: "rootId", "apt-get": "apt-get" },
    files: { "etc/os-release": debian12 },
  }, {
    stdout: [`with TOP/sys/${lavapipe}`],
    stderr: ["installing Mesa's lavapipe"],
    log: [
      "source deb http://deb.debian.org/debian bookworm-backports main",
      "-t bookworm-backports",
      "mesa-vulkan-drivers libvulkan1",
    ],
  }],
  ["uses backports that are already set up", {
    path: { deno: "deno", id: "rootId", "apt-get": "apt-get" },
    files: { "etc/os-release": debian12, "etc/apt/sources.list.d/b.list": backports },
  }, { stdout: [cli], log: ["-t bookworm-backports", "!SourceList"] }],
  ["takes Debian 12's own driver where backports do not serve", {
    path: { deno: "deno", id: "rootId", "apt-get": "aptWithoutBackports" },
    files: { "etc/os-release": debian12 },
  }, { stdout: [cli], stderr: ["did not serve"] }],
  ["installs lavapipe as root on Ubuntu", {
    path: { deno: "deno", id: "rootId", "apt-get": "apt-get" },
    files: { "etc/os-release": ubuntu },
  }, { stdout: [cli], log: ["mesa-vulkan-drivers", "!backports"] }],
  ["waits while another apt-get holds the lists", {
    path: { deno: "deno", id: "rootId", "apt-get": "apt-get" },
    files: { "etc/os-release": ubuntu, locked: "" },
  }, { stdout: [cli], log: ["sleep 5", "Lock::Timeout=600"] }],
  ["says what to install where apt-get fails", {
    path: { deno: "deno", id: "rootId", "apt-get": "brokenApt" },
    files: { "etc/os-release": ubuntu },
  }, { code: 4, stderr: ["Unable to locate package", "Vulkan driver must answer", "Fedora"] }],
  ["says what to install where it is not root", {
    path: { deno: "deno", "apt-get": "apt-get" },
    files: { "etc/os-release": debian12 },
  }, { code: 4, stderr: ["sudo apt-get install", "bookworm-backports"], log: ["!apt-get"] }],
  ["installs the driver that VK_ICD_FILENAMES names but is not there yet", {
    path: { deno: "deno", id: "rootId", "apt-get": "apt-get" },
    files: { "etc/os-release": ubuntu },
    env: { VK_ICD_FILENAMES: "/nowhere/lvp_icd.json" },
  }, { stdout: [`with TOP/sys/${lavapipe}`] }],
  ["gives --help without a driver", { path: { deno: "deno" }, args: ["--help"] }, {
    stdout: ["cli.ts --help"],
    log: ["!eval"],
  }],
  ["starts the tests", { path: { deno: "deno" }, files: withLavapipe, args: ["test", "ops", "--full"] }, {
    stdout: ["run --allow-all TOP/checkout/tools/test.ts ops --full"],
  }],
  ["hands deno's own commands over", {
    path: { deno: "deno" },
    files: withLavapipe,
    args: ["deno", "run", "-A", "x y"],
  }, {
    stdout: ["run run -A x y with"],
  }],
  ["permits writes to the hub's cache and files named by --out", {
    path: { deno: "deno" },
    files: withLavapipe,
    env: { HF_HOME: "/h f", HF_ENDPOINT: "http://127.0.0.1:8080/x" },
    args: ["quantize", "--out", "a.gguf", "--trace=t.json"],
  }, {
    stdout: [
      "--allow-write=/h f/hub,TOP/home/.cache/tensaur,a.gguf,a.gguf.PID.incomplete,t.json,t.json.PID.incomplete",
      "--allow-net=127.0.0.1:8080 ",
    ],
  }],
  ["permits no more than deno.json says", { path: { deno: "deno" }, files: withLavapipe }, {
    stdout: [
      "--no-prompt --allow-read --allow-env=HF_*,",
      "--allow-net=huggingface.co,*.hf.co ",
      "!allow-all",
      "!allow-run",
      "!allow-ffi",
    ],
  }],
  ["works with an empty HOME", { path: { deno: "deno" }, files: withLavapipe, env: { HOME: "" } }, {
    stdout: ["--allow-write=TOP/checkout/.deno/home/.cache/huggingface/hub"],
  }],
];

for (const [name, world, want] of cases) {
  Deno.test(`./tensaur ${name}`, async () => {
    await using m = await machine(world);
    const args = world.args ?? ["generate"];
    const first = await m.run(...args);
    const told = JSON.stringify(first, null, 1);
    assertEquals(first.code, want.code ?? 0, told);
    for (const key of ["stdout", "stderr", "log"] as const) {
      for (const part of want[key] ?? []) {
        const absent = part.startsWith("!");
        assertEquals(first[key].includes(absent ? part.slice(1) : part), !absent, `${key}: ${part}\n${told}`);
      }
    }
    const left = [...Deno.readDirSync(`${m.top}/checkout/.deno`)].map((e) => e.name).filter((n) => n.startsWith("tmp"));
    assertEquals(left, [], "nothing temporary is left");
    if (first.code !== 0 || args[0] === "--help") return;

    const second = await m.run(...args);
    assertEquals(second.stdout, first.stdout, "a second start is the same start");
    assertEquals(second.stderr, "", "a second start has nothing to say");
    const called = second.log.split("\n").filter((line) => !/^(uname|deno run|$)/.test(line));
    assertEquals(called, [], "a second start searches and installs nothing");
  });
}

Deno.test("./tensaur looks again when the drivers change", async () => {
  await using m = await machine({ path: { deno: "deno" }, files: withLavapipe });
  await m.run("generate");
  await Deno.mkdir(`${m.top}/sys/dev/dri`, { recursive: true });
  await Deno.writeTextFile(`${m.top}/sys/dev/dri/renderD128`, "");
  await Deno.writeTextFile(`${m.top}/sys/gpu_answers`, "");
  const { stdout } = await m.run("generate");
  assert(stdout.includes("with any driver"), stdout);
});

Deno.test("./tensaur runs from another folder and through a link", async () => {
  await using m = await machine({ path: { deno: "deno" }, files: withLavapipe });
  await Deno.symlink(`${m.top}/checkout/tensaur`, `${m.top}/bin/linked`);
  const { stdout } = await new Deno.Command("sh", {
    args: ["-c", "linked generate"],
    cwd: "/",
    clearEnv: true,
    env: { PATH: `${m.top}/bin`, LOG: `${m.top}/log`, TENSAUR_SYSROOT: `${m.top}/sys`, HOME: `${m.top}/home` },
  }).output();
  assert(new TextDecoder().decode(stdout).includes(`${m.top}/checkout/cli.ts generate`));
});
