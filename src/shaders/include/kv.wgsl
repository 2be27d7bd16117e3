// kv: where queries, keys, values and results lie, and which keys a query sees. The shader declares the bindings
// cuSeqlens, counts and geometry; src/ops/attention_layout.ts writes the words of the last.
// MAPPED: keys lie in pages of 64 tokens. counts is [B] keys before this batch, [B] how far the ring is turned, [B, P] pages.
const HEADS: u32 = 0u;
const KV_HEADS: u32 = 1u;
const K_STRIDES: u32 = 2u; // elements from one sequence to the next, from one head, from one key
const V_STRIDES: u32 = 5u;
const SCALE: u32 = 8u; // f32 bits
const SOFTCAP: u32 = 9u; // f32 bits, 0 for none
const BEFORE: u32 = 10u; // keys before its own that a query sees
const AFTER: u32 = 11u;
const COUNTS: u32 = 12u; // 0: counts [B + 1] says where packed keys begin; 1: [B] keys before this batch; 2: [B] keys
const TOP_LEFT: u32 = 13u; // 1: query i stands at key i; 0: the last query stands at the last key
const BIAS_STRIDES: u32 = 14u; // from one sequence, head, query, key to the next
const BIAS_IS_MASK: u32 = 18u; // 1: bias is uint32, 0 where a key is hidden
const Q_STRIDES: u32 = 19u; // beyond a token's own place: from one sequence to the next, one head, one token; 0 if dense
const O_STRIDES: u32 = 22u;
const STAYING: u32 = 25u; // with MAPPED: keys at the front that do not go round
const RING: u32 = 26u; // with MAPPED: keys that go round behind them
const BIAS_REACH: u32 = 27u; // above 0: bias is by the key's place less its query's, from -BIAS_REACH to BIAS_REACH
const ZERO: u32 = 31u; // always 0
const SLOPES: u32 = 32u; // [H] f32 bits, then as many sinks

struct Sequence {
  index: u32,
  start: u32, // its first token
  tokens: u32,
  keys: u32,
  place: i32, // where its first token stands among its keys
  k: u32, // element where its keys begin
  v: u32,
}

fn sequenceAt(b: u32) -> Sequence {
  let start = cuSeqlens[b];
  let tokens = cuSeqlens[b + 1u] - start;
  let mode = geometry[COUNTS];
  let count = counts[b];
  var keys = count;
  var first = b;
  var strides = vec2<u32>(geometry[K_STRIDES], geometry[V_STRIDES]);
  if (mode == 0u) {
    keys = counts[b + 1u] - count;
    first = count;
    strides = vec2<u32>(geometry[K_STRIDES + 2u], geometry[V_STRIDES + 2u]);
  } else if (mode == 1u) {
    keys = count + tokens;
  }
  let place = select(i32(keys) - i32(tokens), 0, geometry[TOP_LEFT] == 1u);
  // @if MAPPED
  first = 0u; // pages say where
  // @end
  return Sequence(b, start, tokens, keys, place, first * strides.x, first * strides.y);
}

// @if MAPPED
// The pages of a sequence.
struct Pages {
  turned: u32, // how far its ring is
  staying: u32,
  end: u32, // of the ring
  table: u32, // where its pages begin in counts
}

fn pagesOf(s: Sequence) -> Pages {
  let B = arrayLength(&cuSeqlens) - 1u;
  let P = arrayLength(&counts) / B - 2u;
  let staying = geometry[STAYING];
  return Pages(counts[B + s.index], staying, staying + geometry[RING], 2u * B + s.index * P);
}

// The page of a key, its place there, and how many keys from it on lie one behind the other.
fn runFrom(p: Pages, key: u32) -> vec3<u32> {
  let turned = key + p.turned;
  let round = select(turned, turned + p.staying - p.end, turned >= p.end);
  let slot = select(round, key, key < p.staying);
  let run = select(p.end, p.staying, key < p.staying) - slot;
  return vec3<u32>(counts[p.table + slot / 64u], slot % 64u, min(run, 64u - slot % 64u));
}

fn pageOf(s: Sequence, key: u32) -> vec2<u32> {
  return runFrom(pagesOf(s), key).xy;
}
// @end

// Elements where a key and a value begin; k0 and v0: where the sequence's first one of the head does.
fn keyAt(s: Sequence, k0: u32, key: u32) -> u32 {
  // @if MAPPED
  let page = pageOf(s, key);
  return k0 + page.x * geometry[K_STRIDES] + page.y * geometry[K_STRIDES + 2u];
  // @else
  return k0 + key * geometry[K_STRIDES + 2u];
  // @end
}

fn valueAt(s: Sequence, v0: u32, key: u32) -> u32 {
  // @if MAPPED
  let page = pageOf(s, key);
  return v0 + page.x * geometry[V_STRIDES] + page.y * geometry[V_STRIDES + 2u];
  // @else
  return v0 + key * geometry[V_STRIDES + 2u];
  // @end
}

// The sequence that holds a token: the last that begins at or before it.
fn sequenceOf(token: u32) -> Sequence {
  var low = 0u;
  var high = arrayLength(&cuSeqlens) - 2u;
  while (low < high) {
    let middle = (low + high + 1u) / 2u;
    if (cuSeqlens[middle] <= token) {
      low = middle;
    } else {
      high = middle - 1u;
    }
  }
  return sequenceAt(low);
}

// Keys that the query at `place` may see: [x, y), y at least x.
fn visible(place: i32, keys: u32) -> vec2<u32> {
  let least = min(max(0, place - i32(geometry[BEFORE])), i32(keys));
  let to = min(max(least, place + i32(geometry[AFTER]) + 1), i32(keys));
  return vec2<u32>(u32(least), u32(to));
}

fn qAt(s: Sequence, token: u32, head: u32, dim: u32) -> u32 {
  let dense = geometry[Q_STRIDES + 2u] == 0u;
  let strided = s.index * geometry[Q_STRIDES] + head * geometry[Q_STRIDES + 1u] + token * geometry[Q_STRIDES + 2u];
  return select(strided, (token * geometry[HEADS] + head) * dim, dense);
}

fn oAt(s: Sequence, token: u32, head: u32, dim: u32) -> u32 {
  let dense = geometry[O_STRIDES + 2u] == 0u;
  let strided = s.index * geometry[O_STRIDES] + head * geometry[O_STRIDES + 1u] + token * geometry[O_STRIDES + 2u];
  return select(strided, (token * geometry[HEADS] + head) * dim, dense);
}

fn slopeOf(head: u32) -> f32 {
  return bitcast<f32>(geometry[SLOPES + head]);
}

fn sinkOf(head: u32) -> f32 {
  return bitcast<f32>(geometry[SLOPES + geometry[HEADS] + head]);
}
