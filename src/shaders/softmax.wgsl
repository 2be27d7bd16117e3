// softmax: y[r,i] = exp(x[r,i] - m) / sum_j exp(x[r,j] - m) with m = max_j x[r,j]; LOG: its logarithm
//
// x, y     [rows, n] f32      width: n elements, bound for their number
// grid     [rows]: one workgroup a row, each thread strides n by WG, in vec4 where n divides by 4 (BY_4)
// traffic  read x three times (twice from cache), write y once: bandwidth-bound
const WG: u32 = 64; // @const 64 8 256
// @optional LOG BY_4
// @include "elem.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"
// @include "weigh.wgsl"

@group(0) @binding(0) var<storage, read> x: array<elem>;
@group(0) @binding(1) var<storage, read> width: array<elem>;
@group(0) @binding(2) var<storage, read_write> y: array<elem>;

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
  var most = LOWEST;
  for (var i = thread; i < n; i += WG) {
    most = max(most, greatest(x[base + i]));
  }
  most = workgroupMax(most, thread);
  var sums = elem();
  for (var i = thread; i < n; i += WG) {
    sums += weigh(x[base + i], most);
  }
  let sum = workgroupSum(total(sums), thread);
  // @if LOG
  let shift = log(sum);
  for (var i = thread; i < n; i += WG) {
    y[base + i] = (x[base + i] - most) - shift;
  }
  // @else
  let scale = 1.0 / sum; // nothing but -infinity: 0 / 0, NaN as in torch
  for (var i = thread; i < n; i += WG) {
    y[base + i] = weigh(x[base + i], most) * scale;
  }
  // @end
}
