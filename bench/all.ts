/** `deno task bench`: every bench, the report, the gate, the comparison and the peers. */
import { positional } from "./flags.ts";
import { runSuite } from "./suite.ts";
const names = positional([]);
const r = await runSuite({ names, quick: true, say: (l) => console.log(l) });
console.log(JSON.stringify(r).slice(0, 1500), r.missing);
