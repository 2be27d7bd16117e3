// qkv_rope: a packed projection split into q, k and v; q and k rotated as in rotary_embedding (ROPE), and before that
// normed over each head (NORM): x * rsqrt(mean(x^2) + EPS) * weight
//
// qkv      [T, HEADS + 2 KV_HEADS, HEAD_DIM] f32: the heads of q, then of k, then of v
// y        q [T, HEADS, HEAD_DIM], k and v [T, KV_HEADS, HEAD_DIM] f32, each from a multiple of 64 elements on
// table    [positions, 2, HALF] f32: cosines, then sines      positions [T] u32      q_norm, k_norm [HEAD_DIM] f32
// grid     [T * (HEADS + 2 KV_HEADS)] with NORM, one workgroup a head, or WG heads and each a thread's with SERIAL, since
//          CPUs are slow at barriers; else a thread for each pair
// traffic  read qkv, write y: bandwidth-bound
// @optional NORM SERIAL ROPE INTERLEAVED
override HEADS: u32 = 8;
override KV_HEADS: u32 = 2;
override HEAD_DIM: u32 = 64;
override HALF: u32 = 32;
override EPS: f32 = 1e-6;
const WG: u32 = 64;
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

struct Head {
  token: u32,
  index: u32, // among those of q, k and v
  start: u32, // where it begins in qkv
  to: u32, // and in y
}

fn headOf(row: u32) -> Head {
  let heads = HEADS + 2u * KV_HEADS;
  let tokens = arrayLength(&qkv) / (heads * HEAD_DIM);
  let token = row / heads;
  let head = row % heads;
  let k = (tokens * HEADS * HEAD_DIM + 63u) / 64u * 64u;
  let v = k + (tokens * KV_HEADS * HEAD_DIM + 63u) / 64u * 64u;
  let ofQ = (token * HEADS + head) * HEAD_DIM;
  let ofK = k + (token * KV_HEADS + head - HEADS) * HEAD_DIM;
  let ofV = v + (token * KV_HEADS + head - HEADS - KV_HEADS) * HEAD_DIM;
  let ofKv = select(ofK, ofV, head >= HEADS + KV_HEADS);
  return Head(token, head, row * HEAD_DIM, select(ofQ, ofKv, head >= HEADS));
}

fn splitPair(head: Head, p: u32, scale: f32) {
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
  let pairs = (HEAD_DIM + 1u) / 2u;
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
  for (var p = first; p < pairs; p += next) {
    splitPair(head, p, scale);
  }
  // @else
  let i = flatGroup(group, groups) * WG + thread;
  if (i < rows * pairs) {
    splitPair(headOf(i / pairs), i % pairs, 1.0);
  }
  // @end
}
