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

@group(0) @binding(0) var<storage, read> x: array<elem>;
@group(0) @binding(1) var<storage, read> width: array<elem>;
@group(0) @binding(2) var<storage, read_write> y: array<elem>;

const LOWEST: f32 = -3.4028234663852886e38; // where a maximum starts, so that rows masked with it come out uniform

// exp(x - most), whose argument never leaves the range of f32; NaN for NaN and infinity, found by their bits
fn weigh(x: elem, most: f32) -> elem {
  let bits = bitcast<word>(x);
  let broken = ((bits & word(0x7fffffffu)) > word(0x7f800000u)) | (bits == word(0x7f800000u));
  return select(exp(max(x - most, elem(-200.0))), bitcast<elem>(bits | word(0x7fc00000u)), broken);
}

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
