// matmul_row: matmul of one row by 16-bit weights for CPUs, where the loads of w are what counts: one of 16 bytes a lane costs
// little more than one of 8. The lanes of a subgroup, at least 8, load different numbers of x and hand them round. K divides by 4, N by 8.
//
// x        [1, K] f32       w  [K, N]       y  [1, N] f32       norm  [K] f32       as in matmul and include/linear.wgsl
// grid     [N / 8 / LANES]: a thread holds 8 sums; with GATED lanes 0 to 3 of eight those of the first half of the columns,
//          the others those of the second, which they hand over at the end
// measured on 2 busy EPYC cores, a core, f16: 4.4 GB/s; steps of 1 or of 4 along K 3.8, w not in strips 3.6, matmul_few 3.5
// @header
// @one-of SUBGROUPS
// @one-of WIDE
// @one-of F16 BF16
// @optional BIAS RESIDUAL NORM GATED
// @one-of N_BY_4
// @include "linear.wgsl"
const LANES: u32 = 32; // @const
override EPS: f32 = 1e-6;

@group(0) @binding(0) var<storage, read> x: array<f32>;
// @if NORM
@group(0) @binding(6) var<storage, read> norm: array<f32>;
// @end

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let K = dims[0];
  // lanes past the end repeat the last columns and do not store
  // @if GATED
  let columns = dims[2] / 4u; // eights of each half
  let own = (group.x * LANES + thread) / 8u * 4u + lane % 4u;
  let isGate = lane % 8u < 4u;
  let place = columnOf(2u * (min(own, columns - 1u) + select(columns, 0u, isGate)));
  // @else
  let columns = dims[2] / 2u;
  let own = group.x * LANES + thread;
  let place = columnOf(2u * min(own, columns - 1u));
  // @end
  let step = place.y / 2u;
  var at = place.x / 2u;
  var first = vec4<f32>();
  var second = vec4<f32>();
  // @if NORM
  var squares = 0.0; // of what the lane loads
  // @end

  for (var k = 0u; k < K; k += 2u) {
    let above = w[at];
    let below = w[at + step];
    at += 2u * step;
    var v = x[k + lane % 2u];
    // @if NORM
    squares += v * v;
    v *= norm[k + lane % 2u];
    // @end
    let a = subgroupBroadcast(v, 0u);
    let b = subgroupBroadcast(v, 1u);
    first += unpack(above.xy) * a + unpack(below.xy) * b;
    second += unpack(above.zw) * a + unpack(below.zw) * b;
  }

  // @if NORM
  let scale = inverseSqrt(subgroupAdd(squares) / (subgroupAdd(0.5) * f32(K)) + EPS);
  first *= scale;
  second *= scale;
  // @end
  // @if GATED
  let up = subgroupShuffleXor(first, 4u);
  let nextUp = subgroupShuffleXor(second, 4u);
  if (own < columns && isGate) {
    storeGated(1u, 0u, 2u * own, first, up);
    storeGated(1u, 0u, 2u * own + 1u, second, nextUp);
  }
  // @else
  if (own < columns) {
    store(1u, 0u, 2u * own, first);
    store(1u, 0u, 2u * own + 1u, second);
  }
  // @end
}
