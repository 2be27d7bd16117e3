// rms_norm: y[r,i] = x[r,i] * rsqrt(mean_i(x[r,i]^2) + EPS) * weight[i]
//
// x, y     [rows, dim] f32      weight [dim] f32
// grid     [rows]: one workgroup a row, each thread strides dim by WG
// traffic  read x twice (the second from cache), write y once: bandwidth-bound
// paper    https://arxiv.org/abs/1910.07467
override EPS: f32 = 1e-6;
const WG: u32 = 64; // @const
// @include "grid.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let dim = arrayLength(&weight);
  let row = flatGroup(group, groups);
  if (row >= arrayLength(&y) / dim) {
    return;
  }
  let base = row * dim;
  var sum = 0.0;
  for (var i = thread; i < dim; i += WG) {
    sum += x[base + i] * x[base + i];
  }
  let scale = inverseSqrt(workgroupSum(sum, thread) / f32(dim) + EPS);
  for (var i = thread; i < dim; i += WG) {
    y[base + i] = x[base + i] * scale * weight[i];
  }
}
