/** Runs resolveModel() in a process of its own: arguments in, result or error as one line of JSON out. */

import { TensaurError } from "../../src/errors.ts";
import { resolveModel } from "../../src/weights/hub.ts";

const [name = "", cacheDir = "", endpoint = ""] = Deno.args;
try {
  console.log(JSON.stringify(await resolveModel(name, { cacheDir, endpoint })));
} catch (error) {
  const { name, message, hint } = error as TensaurError;
  console.log(JSON.stringify({ error: name, ours: error instanceof TensaurError, message, hint }));
}
