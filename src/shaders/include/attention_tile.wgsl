// attention_tile: what the tiled attention kernels share. A workgroup of LANES threads holds ROWS queries: ROWS / PACK
// tokens of PACK heads that read the same keys. SPAN threads hold a value, HELD fours of elements each.
// FRESH: q is the projection of one token a sequence, whose key and value are not in k and v yet, see fresh.wgsl.
// @if BY_4
@group(0) @binding(0) var<storage, read> q: array<quad>;
// @else
@group(0) @binding(0) var<storage, read> q: array<f32>;
// @end
// @include "kv_quads.wgsl"
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(4) var<storage, read> geometry: array<u32>;
@group(0) @binding(5) var<storage, read> counts: array<u32>;
@group(0) @binding(6) var<storage, read_write> o: array<f32>;
// @if BIAS
@group(0) @binding(7) var<storage, read> bias: array<u32>;
// @end
// @include "kv.wgsl"
// @include "score.wgsl"

const TOKENS: u32 = ROWS / PACK;
const QUADS: u32 = (DV + 3) / 4;
const PARTS: u32 = LANES / SPAN; // keys whose values are added at once: SPAN lanes hold one, HELD fours each
const LEAST_PIECE: u32 = 128; // keys of a split, but of the last

struct Tile {
  s: Sequence,
  first: u32, // token of the sequence with which it begins
  tokens: u32, // 0 if there is none
  g: u32, // head of keys
  head: u32, // the first of its heads
  heads: u32,
  place: i32, // where its first token stands among the keys
  k0: u32, // element where the keys begin, for keyAt
  v0: u32,
  keys: vec2<u32>, // those that any of its queries may see: [x, y)
}

// The tiles of sequence b begin at tile cuSeqlens[b] / TOKENS + b, so that no list of tiles is wanted; some are empty.
fn tileAt(group: vec3<u32>, groups: vec3<u32>) -> Tile {
  var low = 0u;
  var high = arrayLength(&cuSeqlens) - 2u;
  while (low < high) {
    let middle = (low + high + 1u) / 2u;
    let begins = select(cuSeqlens[middle] / TOKENS + middle, cuSeqlens[middle], TOKENS == 1u);
    if (begins <= group.y) {
      low = middle;
    } else {
      high = middle - 1u;
    }
  }
  let s = sequenceAt(low);
  let first = select((group.y - s.start / TOKENS - low) * TOKENS, group.y - s.start, TOKENS == 1u);
  let tokens = min(TOKENS, max(s.tokens, first) - first);
  let G = geometry[HEADS] / geometry[KV_HEADS];
  let chunks = (G + PACK - 1u) / PACK; // tiles of heads that share one head of keys
  let g = group.z / chunks;
  let head = g * G + group.z % chunks * PACK;
  let place = s.place + i32(first);
  var keys = vec2<u32>(visible(place, s.keys).x, visible(place + i32(tokens) - 1, s.keys).y);
  keys.y = max(keys.x, keys.y);
  // @if SPLIT
  let piece = max((keys.y - keys.x + groups.x - 1u) / groups.x, LEAST_PIECE);
  let start = min(keys.x + group.x * piece, keys.y);
  keys = vec2<u32>(start, min(start + piece, keys.y));
  // @end
  let k0 = s.k + g * geometry[K_STRIDES + 1u];
  let v0 = s.v + g * geometry[V_STRIDES + 1u];
  return Tile(s, first, tokens, g, head, min(PACK, (g + 1u) * G - head), place, k0, v0, keys);
}

// What one query of a tile is; one that is not there repeats the first.
struct Query {
  q: u32, // element where it begins
  head: u32,
  bias: u32, // element of the bias that is added for key 0
}

fn queryAt(t: Tile, row: u32) -> Query {
  let token = t.first + select(0u, row / PACK, row / PACK < t.tokens);
  let head = t.head + select(0u, row % PACK, row % PACK < t.heads);
  var added = 0u;
  // @if BIAS
  added = biasAt(t.s, head) + token * geometry[BIAS_STRIDES + 2u];
  // @end
  // @if FRESH
  return Query(freshAt(t, head), head, added);
  // @else
  return Query(qAt(t.s, t.s.start + token, head, DH), head, added);
  // @end
}

// A score after scale, soft cap, ALiBi and bias; HIDDEN where the query at `place` may not see the key.
fn scoreOf(product: f32, place: i32, key: u32, end: u32, slope: f32, added: u32) -> f32 {
  var x = product * bitcast<f32>(geometry[SCALE]);
  // @if CAP
  x = capped(x);
  // @end
  x -= slope * abs(f32(place - i32(key)));
  // @if BIAS
  x = biased(x, added, place, min(key, end - 1u));
  // @end
  let seen = u32(i32(key + geometry[BEFORE]) - place) <= geometry[BEFORE] + geometry[AFTER];
  return select(HIDDEN, x, key < end && seen);
}

// @include "fresh.wgsl"

fn queryQuad(at: u32, n: u32) -> vec4<f32> {
  // @if BY_4
  return fromQuad(q[at / 4u + n]);
  // @else
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    if (4u * n + i < DH) {
      four[i] = q[at + 4u * n + i];
    }
  }
  return four;
  // @end
}

fn storeQuad(at: u32, n: u32, value: vec4<f32>) {
  for (var i = 0u; i < 4u; i++) {
    if (4u * n + i < DV) {
      o[at + 4u * n + i] = value[i];
    }
  }
}

// Stores the share of a row that a lane holds; with SPLIT undivided, and for attention_merge its greatest score and sum.
fn storeRow(
  t: Tile,
  row: u32,
  group: vec3<u32>,
  groups: vec3<u32>,
  lane: u32,
  value: array<vec4<f32>, HELD>,
  most: f32,
  all: f32,
) {
  if (row / PACK >= t.tokens || row % PACK >= t.heads || lane >= SPAN) {
    return;
  }
  let token = t.s.start + t.first + row / PACK;
  let head = t.head + row % PACK;
  // @if SPLIT
  let share = 1.0;
  let to = ((token * geometry[HEADS] + head) * groups.x + group.x) * (4u * QUADS + 2u);
  if (lane == 0u) {
    o[to + 4u * QUADS] = most;
    o[to + 4u * QUADS + 1u] = all;
  }
  // @else
  let share = select(0.0, 1.0 / all, all > 0.0); // a query that sees no key gives zeros
  let to = oAt(t.s, token, head, DV);
  // @end
  for (var n = 0u; n < HELD + geometry[ZERO]; n++) {
    var four = vec4<f32>();
    // @unroll
    for (var m = 0u; m < HELD; m++) {
      four = select(four, value[m], m == n);
    }
    if (lane + n * SPAN < QUADS) {
      storeQuad(to, lane + n * SPAN, four * share);
    }
  }
}
