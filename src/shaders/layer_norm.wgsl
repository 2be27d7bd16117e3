// layer_norm: y[r,i] = (x[r,i] - mean_i x[r]) * rsqrt(mean_i (x[r] - mean)^2 + EPS) * weight[i] + bias[i]
//
// x, y     [rows, dim] f32      weight, bias [dim] f32      width: dim elements, bound for their number
// grid     [rows]: one workgroup a row, each thread strides dim by WG, in vec4 where dim divides by 4 (BY_4)
// traffic  read x three times (twice from cache: the variance is of the differences), write y once: bandwidth-bound
// paper    https://arxiv.org/abs/1607.06450
override EPS: f32 = 1e-5;
const WG: u32 = 64; // @const 64 8 256
// @optional WEIGHT BIAS BY_4
// @include "elem.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> x: array<elem>;
@group(0) @binding(1) var<storage, read> width: array<elem>;
// @if WEIGHT
@group(0) @binding(2) var<storage, read> weight: array<elem>;
// @end
// @if BIAS
@group(0) @binding(3) var<storage, read> bias: array<elem>;
// @end
@group(0) @binding(4) var<storage, read_write> y: array<elem>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let n = arrayLength(&width);
  let row = flatGroup(group, groups);
  if (row >= arrayLength(&y) / n) {
    return;
  }
  let base = row * n;
  var sum = elem();
  for (var i = thread; i < n; i += WG) {
    sum += x[base + i];
  }
  let mean = workgroupSum(total(sum), thread) / f32(n * LANES);
  var squares = elem();
  for (var i = thread; i < n; i += WG) {
    let d = x[base + i] - mean;
    squares += d * d;
  }
  let scale = inverseSqrt(workgroupSum(total(squares), thread) / f32(n * LANES) + EPS);
  for (var i = thread; i < n; i += WG) {
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
