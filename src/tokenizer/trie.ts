// No file can be written so that its edges meet in one slot.
const SEED = Math.floor(Math.random() * 2 ** 32);

/** A trie over UTF-16 units in one hash table of integers: quick to walk, and small for vocabularies of 250,000. */
export class Trie {
  #nodes = new Int32Array(64).fill(-1); // the parent of the edge in each slot, -1 for an empty slot
  #units = new Uint16Array(64);
  #children = new Int32Array(64);
  readonly #values: number[] = [-1];

  /** Stores `value`, a whole number >= 0, at `text`; the last one stored counts. */
  set(text: string, value: number): void {
    let node = 0;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      let child = this.next(node, unit);
      if (child < 0) {
        if (this.#values.length * 2 > this.#nodes.length) this.#grow();
        child = this.#values.push(-1) - 1;
        this.#insert(node, unit, child);
      }
      node = child;
    }
    this.#values[node] = value;
  }

  /** The node that `unit` leads to from `node` (0 is the root), or -1. */
  next(node: number, unit: number): number {
    for (let at = slot(node, unit, this.#nodes.length);; at = (at + 1) & (this.#nodes.length - 1)) {
      const parent = this.#nodes[at]!;
      if (parent < 0) return -1;
      if (parent === node && this.#units[at] === unit) return this.#children[at]!;
    }
  }

  /** What is stored at `node`, or -1. */
  value(node: number): number {
    return this.#values[node]!;
  }

  #insert(node: number, unit: number, child: number): void {
    let at = slot(node, unit, this.#nodes.length);
    while (this.#nodes[at]! >= 0) at = (at + 1) & (this.#nodes.length - 1);
    this.#nodes[at] = node;
    this.#units[at] = unit;
    this.#children[at] = child;
  }

  #grow(): void {
    const [nodes, units, children] = [this.#nodes, this.#units, this.#children];
    const size = nodes.length * 4;
    this.#nodes = new Int32Array(size).fill(-1);
    this.#units = new Uint16Array(size);
    this.#children = new Int32Array(size);
    for (let at = 0; at < nodes.length; at++) {
      if (nodes[at]! >= 0) this.#insert(nodes[at]!, units[at]!, children[at]!);
    }
  }
}

/** Where the edge of `node` and `unit` is looked for first in a table of `size`, a power of two. */
function slot(node: number, unit: number, size: number): number {
  let hash = Math.imul(node ^ SEED, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 15) ^ unit, 0x85ebca6b);
  return (hash ^ (hash >>> 13)) & (size - 1);
}
