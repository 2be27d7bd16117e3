/**
 * Names in files on disk and ours.
 *
 * @module
 */

/** "maxNewTokens" to "max_new_tokens", as files on disk have it. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** "max_new_tokens" to "maxNewTokens". */
export function camelCase(key: string): string {
  return key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}
