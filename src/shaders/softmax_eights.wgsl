// softmax_eights: softmax of rows that divide by 8 for CPUs, which pay for each lane that loads, whatever its width, and for what a
// loop carries: a lane takes eight numbers at a step and keeps one maximum, and beneath it one sum.
//
// x, y     [rows, n] f32      width: n elements, bound for their number
// grid     [rows]: 8 lanes of a subgroup a row
// traffic  as softmax
// measured on 2 busy EPYC cores, a core, 1024 x 2048: 3.8 GB/s where softmax has 3.1; two loads of a quad each 3.5, 16 numbers a
//          step 3.5 (registers spill), the row kept in private or workgroup memory between the passes no faster
// @header
const WG: u32 = 8;
// @one-of SUBGROUPS
// @one-of BY_4
// @optional LOG
// @include "elem.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"
const LOWEST: f32 = -3.4028234663852886e38; // where a maximum starts, so that rows masked with it come out uniform

@group(0) @binding(0) var<storage, read> x: array<eight>;
@group(0) @binding(1) var<storage, read> width: array<eight>;
@group(0) @binding(2) var<storage, read_write> y: array<eight>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let n = arrayLength(&width);
  // past the last row that one is made again: a return would cost a mask on all that follows
  let base = min(flatGroup(group, groups), arrayLength(&y) / n - 1u) * n;
  var top = LOWEST;
  var own = 0.0;
  var below = 0.0; // all differences from maxima: NaN where a number is, and where infinity is one
  for (var i = thread; i < n; i += WG) {
    let v = fromEight(x[base + i]);
    let most = max(top, greatest(max(v[0], v[1])));
    let first = v[0] - most;
    let second = v[1] - most;
    own = own * exp(top - most) + total(exp(first) + exp(second));
    below += total(first + second);
    top = most;
  }
  let most = workgroupMax(top, thread);
  own *= exp(top - most);
  if ((bitcast<u32>(below) & 0x7fffffffu) > 0x7f800000u) {
    own = below;
  }
  let sum = workgroupSum(own, thread);
  // @if LOG
  let shift = log(sum);
  for (var i = thread; i < n; i += WG) {
    let v = fromEight(x[base + i]);
    y[base + i] = toEight(mat2x4<f32>((v[0] - most) - shift, (v[1] - most) - shift));
  }
  // @else
  let scale = 1.0 / sum; // nothing but -infinity: 0 / 0, NaN as in torch
  for (var i = thread; i < n; i += WG) {
    let v = fromEight(x[base + i]);
    y[base + i] = toEight(mat2x4<f32>(exp(v[0] - most) * scale, exp(v[1] - most) * scale));
  }
  // @end
}
