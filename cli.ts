#!/usr/bin/env -S deno run --allow-read --allow-env
/**
 * The command line: `tensaur generate "Once upon a time"`.
 *
 * ```sh
 * ./tensaur --help                                    # in a checkout: brings Deno and a driver, then runs this file
 * deno run -A cli.ts generate "Once upon a time"      # with a Deno of your own
 * ```
 *
 * Results go to stdout and everything else to stderr. It exits with 0 for success, 2 for a wrong command line, 3 for a
 * model, tokenizer or file that cannot be used, 4 for a GPU that cannot, 130 after Ctrl-C, and 1 for anything else.
 *
 * @module
 */
import { main } from "./src/cli/main.ts";

export { main };

if (import.meta.main) Deno.exit(await main(Deno.args));
