// rotary_embedding: each pair (a, b) of a head's first 2·HALF dimensions, turned by the angle of its token's position:
//   y[a] = x[a] * cos - x[b] * sin,   y[b] = x[b] * cos + x[a] * sin
// pairs are (i, i + HALF), or (2i, 2i + 1) with INTERLEAVED; what lies beyond the rotary dimensions passes through
//
// x, y     [T, H, HEAD_DIM] f32      table [positions, 2, HALF] f32: cosines, then sines      positions [T] u32
// grid     [T * H * pairs / WG], a thread for each pair
// traffic  read x, write y: bandwidth-bound
// paper    https://arxiv.org/abs/2104.09864
// @optional INTERLEAVED
override HEAD_DIM: u32 = 64;
override HALF: u32 = 32;
const WG: u32 = 64;
// @include "grid.wgsl"
// @include "rotate.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> table: array<f32>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let pairs = (HEAD_DIM + 1u) / 2u;
  let i = flatGroup(group, groups) * WG + thread;
  let head = i / pairs;
  if (head >= arrayLength(&y) / HEAD_DIM) {
    return;
  }
  let p = i % pairs;
  let at = head * HEAD_DIM + pairOf(p, HALF);
  if (p < HALF) {
    let heads = arrayLength(&y) / HEAD_DIM / arrayLength(&positions);
    let cosine = 2u * positions[head / heads] * HALF + p;
    let turned = rotate(vec2<f32>(x[at.x], x[at.y]), table[cosine], table[cosine + HALF]);
    y[at.x] = turned.x;
    y[at.y] = turned.y;
    return;
  }
  y[at.x] = x[at.x];
  if (2u * p + 1u < HEAD_DIM) {
    y[at.y] = x[at.y];
  }
}
