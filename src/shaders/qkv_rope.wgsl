// qkv_rope: a packed projection split into q, k and v; q and k rotated as in rotary_embedding (ROPE), and before that
// normed over each head (NORM): x * rsqrt(mean(x^2) + EPS) * weight
//
// qkv      [T, HEADS + 2 KV_HEADS, HEAD_DIM] f32: the heads of q, then of k, then of v
// q, k, v  [T, HEADS | KV_HEADS | KV_HEADS, HEAD_DIM] f32      q_norm, k_norm [HEAD_DIM] f32
// table    [positions, 2, HALF] f32: cosines, then sines      positions [T] u32
// grid     [T * (HEADS + 2 KV_HEADS)] with NORM, one workgroup a head; else a thread for each pair
// traffic  read qkv, write q, k, v: bandwidth-bound
// @optional NORM ROPE INTERLEAVED
override HEADS: u32 = 8;
override KV_HEADS: u32 = 2;
override HEAD_DIM: u32 = 64;
override HALF: u32 = 32;
override EPS: f32 = 1e-6;
const WG: u32 = 64;
// @include "grid.wgsl"
// @if NORM
// @include "reduce.wgsl"
// @end

@group(0) @binding(0) var<storage, read> qkv: array<f32>;
@group(0) @binding(1) var<storage, read_write> q: array<f32>;
@group(0) @binding(2) var<storage, read_write> k: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
// @if ROPE
@group(0) @binding(4) var<storage, read> table: array<f32>;
@group(0) @binding(5) var<storage, read> positions: array<u32>;
// @end
// @if NORM
@group(0) @binding(6) var<storage, read> q_norm: array<f32>;
@group(0) @binding(7) var<storage, read> k_norm: array<f32>;
// @end
// @include "rotate.wgsl"

fn normed(x: f32, head: u32, d: u32, scale: f32) -> f32 {
  // @if NORM
  if (head < HEADS) {
    return x * scale * q_norm[d];
  }
  if (head < HEADS + KV_HEADS) {
    return x * scale * k_norm[d];
  }
  // @end
  return x;
}

fn store(token: u32, head: u32, d: u32, x: f32) {
  if (head < HEADS) {
    q[(token * HEADS + head) * HEAD_DIM + d] = x;
  } else if (head < HEADS + KV_HEADS) {
    k[(token * KV_HEADS + head - HEADS) * HEAD_DIM + d] = x;
  } else {
    v[(token * KV_HEADS + head - HEADS - KV_HEADS) * HEAD_DIM + d] = x;
  }
}

// pair p of the head in row `row` of qkv
fn movePair(row: u32, p: u32, scale: f32) {
  let heads = HEADS + 2u * KV_HEADS;
  let token = row / heads;
  let head = row % heads;
  let d = pairOf(p, HALF);
  let at = row * HEAD_DIM + d; // an odd HEAD_DIM has a last pair without a second, which is read but not stored
  var pair = vec2<f32>(normed(qkv[at.x], head, d.x, scale), normed(qkv[at.y], head, d.y, scale));
  // @if ROPE
  if (p < HALF && head < HEADS + KV_HEADS) {
    let cosine = 2u * positions[token] * HALF + p;
    pair = rotate(pair, table[cosine], table[cosine + HALF]);
  }
  // @end
  store(token, head, d.x, pair.x);
  if (d.y < HEAD_DIM) {
    store(token, head, d.y, pair.y);
  }
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let rows = arrayLength(&qkv) / HEAD_DIM;
  let pairs = (HEAD_DIM + 1u) / 2u;
  // @if NORM
  let row = flatGroup(group, groups);
  if (row >= rows) {
    return;
  }
  var sum = 0.0;
  for (var d = thread; d < HEAD_DIM; d += WG) {
    sum += qkv[row * HEAD_DIM + d] * qkv[row * HEAD_DIM + d];
  }
  let scale = inverseSqrt(workgroupSum(sum, thread) / f32(HEAD_DIM) + EPS);
  for (var p = thread; p < pairs; p += WG) {
    movePair(row, p, scale);
  }
  // @else
  let i = flatGroup(group, groups) * WG + thread;
  if (i < rows * pairs) {
    movePair(i / pairs, i % pairs, 1.0);
  }
  // @end
}
