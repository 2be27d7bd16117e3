// qkv_rope: a packed projection split into q, k and v; q and k rotated as in rotary_embedding (ROPE), and before that
// normed over each head (NORM): x * rsqrt(mean(x^2) + EPS) * weight. With STORE k and v go into a cache.
//
// qkv      [T, HEADS + 2 KV_HEADS, HEAD_DIM] f32: the heads of q, then of k, then of v
// y        q [T, HEADS, HEAD_DIM]; PACKED also k and v [T, KV_HEADS, HEAD_DIM] f32, each from a multiple of 64 elements on
// table    [positions, 2, HALF] f32: cosines, then sines      positions [T] u32      q_norm, k_norm [HEAD_DIM] f32
// keys, values [B, KV_HEADS, capacity, HEAD_DIM] f32, or f16 two in a u32 (HEAD_DIM divides by 4, HALF by 2)
//          MAPPED: [1, KV_HEADS, 64 * pages, HEAD_DIM]
// past     [B] u32: tokens of each sequence that are in the cache      cuSeqlens [B + 1] u32
//          MAPPED: then [B] zeros and [B, P] pages
// grid     [T * (HEADS + 2 KV_HEADS)] with NORM, one workgroup a head, or WG heads and each a thread's with SERIAL, since
//          CPUs are slow at barriers; else a thread for each pair, or each two of which f16 words are made
// traffic  read qkv, write y: bandwidth-bound
// @one-of PACKED STORE_F32 STORE_F16
// @optional NORM SERIAL ROPE INTERLEAVED MAPPED
override HEADS: u32 = 8;
override KV_HEADS: u32 = 2;
override HEAD_DIM: u32 = 64;
override HALF: u32 = 32;
override EPS: f32 = 1e-6;
const WG: u32 = 64;
// @if STORE_F16
const PAIRS: u32 = 2; // that a thread turns at a time
// @else
const PAIRS: u32 = 1;
// @end
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "rotate.wgsl"
// @if NORM
// @include "reduce.wgsl"
// @end

@group(0) @binding(0) var<storage, read> qkv: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
// @if ROPE
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read> positions: array<u32>;
// @end
// @if NORM
@group(0) @binding(4) var<storage, read> q_norm: array<f32>;
@group(0) @binding(5) var<storage, read> k_norm: array<f32>;
// @end
// @if !PACKED
@group(0) @binding(6) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(7) var<storage, read> past: array<u32>;
// @end
// @if STORE_F32
@group(0) @binding(8) var<storage, read_write> keys: array<f32>;
@group(0) @binding(9) var<storage, read_write> values: array<f32>;
// @end
// @if STORE_F16
@group(0) @binding(8) var<storage, read_write> keys: array<u32>;
@group(0) @binding(9) var<storage, read_write> values: array<u32>;
// @end

struct Head {
  token: u32,
  index: u32, // among those of q, k and v
  start: u32, // where it begins in qkv
  to: u32, // and where it goes: in y, or in keys or values
}

fn headOf(row: u32) -> Head {
  let heads = HEADS + 2u * KV_HEADS;
  let token = row / heads;
  let head = row % heads;
  let ofQ = (token * HEADS + head) * HEAD_DIM;
  // @if PACKED
  let tokens = arrayLength(&qkv) / (heads * HEAD_DIM);
  let k = (tokens * HEADS * HEAD_DIM + 63u) / 64u * 64u;
  let v = k + (tokens * KV_HEADS * HEAD_DIM + 63u) / 64u * 64u;
  let ofK = k + (token * KV_HEADS + head - HEADS) * HEAD_DIM;
  let ofV = v + (token * KV_HEADS + head - HEADS - KV_HEADS) * HEAD_DIM;
  let ofKv = select(ofK, ofV, head >= HEADS + KV_HEADS);
  // @else
  let ofKv = slotOf(token, (head - HEADS) % KV_HEADS);
  // @end
  return Head(token, head, row * HEAD_DIM, select(ofQ, ofKv, head >= HEADS));
}

// @if !PACKED
// the element of keys and values where a token's head begins
fn slotOf(token: u32, head: u32) -> u32 {
  let sequences = arrayLength(&cuSeqlens) - 1u;
  var low = 0u; // the last sequence that begins at or before the token
  var high = sequences - 1u;
  while (low < high) {
    let middle = (low + high + 1u) / 2u;
    if (cuSeqlens[middle] <= token) {
      low = middle;
    } else {
      high = middle - 1u;
    }
  }
  let slot = past[low] + token - cuSeqlens[low];
  // @if MAPPED
  let page = past[2u * sequences + low * (arrayLength(&past) / sequences - 2u) + slot / 64u];
  let slots = PAIRS * arrayLength(&keys) / (KV_HEADS * HEAD_DIM);
  return (head * slots + page * 64u + slot % 64u) * HEAD_DIM;
  // @else
  let capacity = PAIRS * arrayLength(&keys) / (sequences * KV_HEADS * HEAD_DIM);
  return ((low * KV_HEADS + head) * capacity + slot) * HEAD_DIM;
  // @end
}
// @end

// pair p, normed and rotated
fn turned(head: Head, p: u32, scale: f32) -> vec2<f32> {
  let d = pairOf(p, HALF);
  let isV = head.index >= HEADS + KV_HEADS;
  // an odd HEAD_DIM has a last pair without a second, which is read but not stored
  var pair = vec2<f32>(qkv[head.start + d.x], qkv[head.start + d.y]);
  // @if NORM
  let isK = head.index >= HEADS;
  let weight = select(vec2<f32>(q_norm[d.x], q_norm[d.y]), vec2<f32>(k_norm[d.x], k_norm[d.y]), isK);
  pair *= select(scale * weight, vec2<f32>(1.0), isV);
  // @end
  // @if ROPE
  if (p < HALF && !isV) {
    let cosine = 2u * positions[head.token] * HALF + p;
    pair = rotate(pair, table[cosine], table[cosine + HALF]);
  }
  // @end
  return pair;
}

fn splitPairs(head: Head, i: u32, scale: f32) {
  let p = i * PAIRS;
  let d = pairOf(p, HALF);
  let pair = turned(head, p, scale);
  // @if STORE_F16
  let next = turned(head, p + 1u, scale);
  let e = pairOf(p + 1u, HALF);
  if (head.index >= HEADS) {
    // side by side in the cache: both pairs' firsts and both seconds, or pair after pair
    let apart = e.x == d.x + 1u;
    let low = packF16Saturated(select(pair, vec2<f32>(pair.x, next.x), apart));
    let high = packF16Saturated(select(next, vec2<f32>(pair.y, next.y), apart));
    let to = (head.to + d.x) / 2u;
    let then = (head.to + select(e.x, d.y, apart)) / 2u;
    if (head.index < HEADS + KV_HEADS) {
      keys[to] = low;
      keys[then] = high;
    } else {
      values[to] = low;
      values[then] = high;
    }
    return;
  }
  y[head.to + e.x] = next.x;
  y[head.to + e.y] = next.y;
  // @end
  // @if STORE_F32
  if (head.index >= HEADS + KV_HEADS) {
    values[head.to + d.x] = pair.x;
    values[head.to + d.y] = pair.y;
    return;
  }
  if (head.index >= HEADS) {
    keys[head.to + d.x] = pair.x;
    keys[head.to + d.y] = pair.y;
    return;
  }
  // @end
  y[head.to + d.x] = pair.x;
  if (d.y < HEAD_DIM) {
    y[head.to + d.y] = pair.y;
  }
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let rows = arrayLength(&qkv) / HEAD_DIM;
  let steps = (HEAD_DIM + 2u * PAIRS - 1u) / (2u * PAIRS);
  // @if NORM
  // @if SERIAL
  let row = flatGroup(group, groups) * WG + thread;
  let first = 0u;
  let next = 1u;
  // @else
  let row = flatGroup(group, groups);
  let first = thread;
  let next = WG;
  // @end
  if (row >= rows) {
    return;
  }
  let head = headOf(row);
  var sum = 0.0;
  for (var d = first; d < HEAD_DIM; d += next) {
    sum += qkv[head.start + d] * qkv[head.start + d];
  }
  // @if !SERIAL
  sum = workgroupSum(sum, thread);
  // @end
  let scale = inverseSqrt(sum / f32(HEAD_DIM) + EPS);
  for (var p = first; p < steps; p += next) {
    splitPairs(head, p, scale);
  }
  // @else
  let i = flatGroup(group, groups) * WG + thread;
  if (i < rows * steps) {
    splitPairs(headOf(i / steps), i % steps, 1.0);
  }
  // @end
}
