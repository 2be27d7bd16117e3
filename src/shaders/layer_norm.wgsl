// layer_norm: y[r,i] = (x[r,i] - mean_i x[r]) * rsqrt(mean_i (x[r] - mean)^2 + EPS) * weight[i] + bias[i]
//
// The sums are of differences from `shift`, the mean of the first numbers of the row, so that a large mean costs no digits:
// these m of n numbers alone make the variance at least m/n of (mean - shift)^2, which is what is taken from it.
//
// x, y     [rows, dim] f32      weight, bias [dim] f32      width: dim elements, bound for their number
// grid     [rows / ROWS]: a workgroup for ROWS rows, which share the loads of weight and bias; each thread strides dim by WG,
//          in vec4 where dim divides by 4 (BY_4)
// traffic  read x twice (once from cache), write y once: bandwidth-bound
// paper    https://arxiv.org/abs/1607.06450
// measured on 2 busy EPYC cores, a core, 1024 x 2048: 3.8 GB/s; the rows in loops 3.3, with two rows 3.6; in words of 32 bits and
//          loops 2.3-3.0, then with one row 2.5, with the variance in a pass of its own and barriers 1.8
// @header
override EPS: f32 = 1e-5;
const WG: u32 = 64; // @const 64 8 256
const ROWS: u32 = 1; // @const 1 4
// @optional WEIGHT BIAS BY_4 SUBGROUPS
// @include "elem.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> x: array<cell>;
@group(0) @binding(1) var<storage, read> width: array<cell>;
// @if WEIGHT
@group(0) @binding(2) var<storage, read> weight: array<cell>;
// @end
// @if BIAS
@group(0) @binding(3) var<storage, read> bias: array<cell>;
// @end
@group(0) @binding(4) var<storage, read_write> y: array<cell>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let n = arrayLength(&width);
  let rows = arrayLength(&y) / n;
  let row = ROWS * flatGroup(group, groups);
  if (row >= rows) {
    return;
  }
  let first = min(WG, n);
  var base: array<u32, ROWS>;
  var shift: array<f32, ROWS>;
  var sum: array<f32, ROWS>;
  var squares: array<f32, ROWS>;
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    base[r] = min(row + r, rows - 1u) * n; // past the last row it is worked on and stored twice
    let start = select(elem(), taken(x[base[r] + min(thread, n - 1u)]), thread < first);
    shift[r] = workgroupSum(total(start), thread) / f32(first * LANES);
  }
  for (var i = thread; i < n; i += WG) {
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      let d = taken(x[base[r] + i]) - shift[r];
      sum[r] += total(d); // a number, as a CPU carries each through a loop in memory
      squares[r] += total(d * d);
    }
  }
  var mean: array<f32, ROWS>;
  var scale: array<f32, ROWS>;
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    let d = workgroupSum(sum[r], thread) / f32(n * LANES);
    let square = workgroupSum(squares[r], thread) / f32(n * LANES);
    mean[r] = shift[r] + d;
    scale[r] = inverseSqrt(max(square - d * d, 0.0) + EPS);
  }
  for (var i = thread; i < n; i += WG) {
    // @if WEIGHT
    let factor = taken(weight[i]);
    // @else
    let factor = elem(1.0);
    // @end
    // @if BIAS
    let term = taken(bias[i]);
    // @else
    let term = elem();
    // @end
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      y[base[r] + i] = put((taken(x[base[r] + i]) - mean[r]) * scale[r] * factor + term);
    }
  }
}
