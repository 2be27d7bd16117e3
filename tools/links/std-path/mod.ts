/**
 * Stand-in for `jsr:@std/path` with the names our tests use, for machines that cannot reach the JSR registry.
 *
 * @module
 */
import { pathToFileURL } from "node:url";

export { basename, dirname, extname, isAbsolute, join, normalize, relative, resolve } from "node:path";
export { fileURLToPath as fromFileUrl } from "node:url";

/** A path as a `file:` URL. */
export function toFileUrl(path: string): URL {
  return pathToFileURL(path);
}
