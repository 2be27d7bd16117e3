// fresh: keys and values made where they are wanted first: q is [T, (HEADS + 2 KV_HEADS) * DH], the heads of q, of k and of
// v of one token a sequence. A tile turns its queries as it reads them (ROPE), and the one that comes to the newest key
// turns that too and writes it and its value behind those that are there. A tile has all heads of its key, so no two write
// the same one.
//
// table    [positions, 2, HALF] f32: cosines, then sines; pair p of a head is its elements p and p + HALF
// positions [T] u32
// @if FRESH
// @if ROPE
@group(0) @binding(8) var<storage, read> table: array<quad>;
@group(0) @binding(9) var<storage, read> positions: array<u32>;
override HALF: u32 = 32u;
// @end

// Element where a head of the tile's token begins; those of k follow those of q, and those of v them.
fn freshAt(t: Tile, head: u32) -> u32 {
  let heads = geometry[HEADS] + 2u * geometry[KV_HEADS];
  return ((t.s.start + t.first) * heads + head) * DH;
}

// The quad of the table where the tile's token begins.
fn anglesOf(t: Tile) -> u32 {
  // @if ROPE
  return positions[t.s.start + t.first] * (HALF / 2u);
  // @else
  return 0u;
  // @end
}

// Quad n of the head that begins at element `at`, turned.
fn turnedQuad(at: u32, n: u32, angles: u32) -> vec4<f32> {
  let own = fromQuad(q[at / 4u + n]);
  // @if ROPE
  let quads = HALF / 4u;
  if (n < 2u * quads) {
    let isFirst = n < quads;
    let pair = select(n - quads, n, isFirst);
    let other = fromQuad(q[at / 4u + select(pair, pair + quads, isFirst)]);
    let sine = fromQuad(table[angles + quads + pair]);
    return own * fromQuad(table[angles + pair]) + select(other, -other, isFirst) * sine;
  }
  // @end
  return own;
}

// Where the newest key comes from and goes to.
struct Newest {
  source: u32, // element of q
  to: u32, // quad of k
  isHere: bool, // not among another tile's part of the keys
}

fn newestOf(t: Tile) -> Newest {
  let to = keyAt(t.s, t.k0, t.s.keys - 1u) / 4u;
  return Newest(freshAt(t, geometry[HEADS] + t.g), to, t.keys.x < t.keys.y && t.keys.y == t.s.keys);
}

fn keepValue(t: Tile, newest: Newest, lane: u32) {
  let start = newest.source / 4u + geometry[KV_HEADS] * Q4;
  let to = valueAt(t.s, t.v0, t.s.keys - 1u) / 4u;
  for (var n = lane; n < Q4 && newest.isHere; n += LANES) {
    v[to + n] = kept(fromQuad(q[start + n]));
  }
}
// @end
