/**
 * Ends a text before the stop string that is complete first (of several that end there, the longest), holding back what may
 * be the beginning of one: in whatever pieces it comes.
 */
export class StopFilter {
  /** Whether a stop string came. */
  stopped = false;
  readonly #stops: readonly string[];
  #held = "";

  /** A filter for `stops`, none of them empty. */
  constructor(stops: readonly string[] = []) {
    this.#stops = stops;
  }

  /** Takes more text and returns what can be shown. */
  put(text: string): string {
    if (this.stopped) return "";
    this.#held += text;
    const found = this.#stops.map((stop) => ({ at: this.#held.indexOf(stop), stop })).filter(({ at }) => at !== -1);
    const [first] = found.sort((a, b) => a.at + a.stop.length - b.at - b.stop.length || a.at - b.at);
    this.stopped = first !== undefined;
    const cut = first?.at ?? this.#held.length - this.#unsure();
    const shown = this.#held.slice(0, cut);
    this.#held = this.#held.slice(cut);
    return shown;
  }

  /** Ends the text: returns what was held back in vain. */
  end(): string {
    return this.stopped ? "" : this.#held;
  }

  /** Length of the longest end of the text that a stop string begins with. */
  #unsure(): number {
    const longest = Math.max(0, ...this.#stops.map((stop) => stop.length - 1));
    for (let n = Math.min(longest, this.#held.length); n > 0; n--) {
      const tail = this.#held.slice(-n);
      if (this.#stops.some((stop) => stop.startsWith(tail))) return n;
    }
    return 0;
  }
}
