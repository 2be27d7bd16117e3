// normalize: y[r,i] = x[r,i] / max(sqrt(sum_i x[r,i]^2), EPS)
//
// x, y     [rows, dim] f32      width: dim elements, bound for their number
// grid     [rows]: one workgroup a row, each thread strides dim by WG
// traffic  read x twice (the second from cache), write y once: bandwidth-bound
override EPS: f32 = 1e-12;
const WG: u32 = 64; // @const 64 256
// @include "grid.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> width: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let dim = arrayLength(&width);
  let row = flatGroup(group, groups);
  if (row >= arrayLength(&y) / dim) {
    return;
  }
  let base = row * dim;
  var sum = 0.0;
  for (var i = thread; i < dim; i += WG) {
    sum += x[base + i] * x[base + i];
  }
  let length = max(sqrt(workgroupSum(sum, thread)), EPS);
  for (var i = thread; i < dim; i += WG) {
    y[base + i] = x[base + i] / length;
  }
}
