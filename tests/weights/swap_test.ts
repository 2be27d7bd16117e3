/** What another process could do to a model's folder between the checks of a path and the opening of its file. */
import { assertEquals, assertRejects } from "@std/assert";
import { ModelPathError } from "../../src/errors.ts";
import { openInside } from "../../src/weights/files.ts";
import { TemporaryFolder } from "./fixture.ts";

const text = async (root: string, name: string) => {
  using file = await openInside(root, name);
  return new TextDecoder().decode(await file.read(0, file.size));
};

/** Runs `body` with a `Deno.open` that does `before` and `after` around itself: what another process could do there. */
async function withSwap(before: () => void, after: () => void, body: () => Promise<void>): Promise<void> {
  const { open } = Deno;
  Deno.open = async (path, options) => {
    before();
    const file = await open(path, options);
    after();
    return file;
  };
  try {
    await body();
  } finally {
    Deno.open = open;
  }
}

const swaps: [what: string, swap: (root: string) => void, back: boolean, want: string][] = [
  ["a link to elsewhere", (root) => Deno.symlinkSync("../secret", `${root}/y`), false, "ModelPathError"],
  [
    "a link to elsewhere, for the open alone,",
    (root) => Deno.symlinkSync("../secret", `${root}/y`),
    true,
    "ModelPathError",
  ],
  ["another file, for the open alone,", (root) => Deno.writeTextFileSync(`${root}/y`, "other"), true, "ModelPathError"],
  ["another file", (root) => Deno.writeTextFileSync(`${root}/y`, "other"), false, "other"],
  ["a hard link", (root) => Deno.linkSync(`${root}/../secret`, `${root}/y`), false, "secret"], // a file of the folder as any
];

for (const [what, lay, back, want] of swaps) {
  Deno.test(`openInside() with ${what} swapped in after the check`, async () => {
    using folder = new TemporaryFolder();
    folder.write("secret", "secret");
    folder.write("model/x", "fine");
    const root = `${folder.path}/model`;
    const swap = () => {
      lay(root);
      Deno.renameSync(`${root}/x`, `${root}/kept`);
      Deno.renameSync(`${root}/y`, `${root}/x`);
    };
    const undo = () => back && Deno.renameSync(`${root}/kept`, `${root}/x`);
    await withSwap(swap, undo, async () => {
      assertEquals(await text(root, "x").catch((error) => (error as Error).name), want);
    });
  });
}

Deno.test("openInside() refuses a link that hides whenever its path is resolved", async () => {
  using folder = new TemporaryFolder();
  folder.write("secret", "secret");
  folder.write("model/x", "fine");
  const root = `${folder.path}/model`;
  const { realPath } = Deno;
  Deno.realPath = async (path) => {
    const hide = `${path}` === `${root}/x`;
    if (hide) {
      folder.write("model/y", "fine");
      Deno.renameSync(`${root}/y`, `${root}/x`);
    }
    const real = await realPath(path);
    if (hide) {
      Deno.symlinkSync("../secret", `${root}/y`);
      Deno.renameSync(`${root}/y`, `${root}/x`);
    }
    return real;
  };
  try {
    await assertRejects(() => openInside(root, "x"), ModelPathError, "must be a regular file");
  } finally {
    Deno.realPath = realPath;
  }
});

Deno.test("openInside() gives the right file or an error while a link is swapped all the time", async () => {
  using folder = new TemporaryFolder();
  folder.write("secret", "secret");
  folder.write("model/x", "fine");
  const root = `${folder.path}/model`;
  let running = true, swapped = 0;
  const swapping = (async () => {
    for (; running; swapped++) {
      await Deno.symlink("../secret", `${root}/next`);
      await Deno.rename(`${root}/next`, `${root}/x`);
      await Deno.writeTextFile(`${root}/next`, "fine");
      await Deno.rename(`${root}/next`, `${root}/x`);
    }
  })();
  const seen = new Set<string>();
  for (let i = 0; i < 300 || swapped < 20; i++) seen.add(await text(root, "x").catch((error) => (error as Error).name));
  running = false;
  await swapping;
  seen.delete("fine");
  seen.delete("ModelPathError");
  assertEquals([...seen], []);
});
