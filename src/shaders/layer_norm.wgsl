// layer_norm: y[r,i] = (x[r,i] - mean_i x[r]) * rsqrt(mean_i (x[r] - mean)^2 + EPS) * weight[i] + bias[i]
//
// x, y     [rows, dim] f32      weight, bias [dim] f32      width: dim elements, bound for their number
// grid     [rows]: one workgroup a row, each thread strides dim by WG
// traffic  read x three times (twice from cache: the variance is of the differences), write y once: bandwidth-bound
// paper    https://arxiv.org/abs/1607.06450
override EPS: f32 = 1e-5;
const WG: u32 = 64; // @const 64 256
// @optional WEIGHT BIAS
// @include "grid.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> width: array<f32>;
// @if WEIGHT
@group(0) @binding(2) var<storage, read> weight: array<f32>;
// @end
// @if BIAS
@group(0) @binding(3) var<storage, read> bias: array<f32>;
// @end
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

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
    sum += x[base + i];
  }
  let mean = workgroupSum(sum, thread) / f32(dim);
  var squares = 0.0;
  for (var i = thread; i < dim; i += WG) {
    let d = x[base + i] - mean;
    squares += d * d;
  }
  let scale = inverseSqrt(workgroupSum(squares, thread) / f32(dim) + EPS);
  for (var i = thread; i < dim; i += WG) {
    var value = (x[base + i] - mean) * scale;
    // @if WEIGHT
    value *= weight[i];
    // @end
    // @if BIAS
    value += bias[i];
    // @end
    y[base + i] = value;
  }
}
