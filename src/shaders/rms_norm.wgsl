// rms_norm: y[r,i] = x[r,i] * rsqrt(mean_i(x[r,i]^2) + EPS) * weight[i], with RESIDUAL + residual[r,i]
//
// x, y, residual  [rows, dim] f32      weight [dim] f32
// grid     [rows]: one workgroup a row, each thread strides dim by WG, in vec4 where dim divides by 4 (BY_4)
// traffic  read x twice (the second from cache), write y once: bandwidth-bound
// paper    https://arxiv.org/abs/1910.07467
// measured on 2 busy EPYC cores, a core, 1024 x 2048: 3.5 GB/s; in words of 32 bits 2.4
// @header
override EPS: f32 = 1e-6;
const WG: u32 = 64; // @const 64 8 256
// @optional BY_4 RESIDUAL SUBGROUPS
// @include "elem.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> x: array<cell>;
@group(0) @binding(1) var<storage, read> weight: array<cell>;
@group(0) @binding(2) var<storage, read_write> y: array<cell>;
// @if RESIDUAL
@group(0) @binding(3) var<storage, read> residual: array<cell>;
// @end

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let n = arrayLength(&weight);
  // past the last row that one is made again: a return would cost a CPU a mask on all that follows
  let base = min(flatGroup(group, groups), arrayLength(&y) / n - 1u) * n;
  var sum = 0.0;
  for (var i = thread; i < n; i += WG) {
    let v = taken(x[base + i]);
    sum += total(v * v);
  }
  let scale = inverseSqrt(workgroupSum(sum, thread) / f32(n * LANES) + EPS);
  for (var i = thread; i < n; i += WG) {
    let normed = taken(x[base + i]) * scale * taken(weight[i]);
    // @if RESIDUAL
    y[base + i] = put(taken(residual[base + i]) + normed);
    // @else
    y[base + i] = put(normed);
    // @end
  }
}
