// softmax: y[r,i] = exp(x[r,i] - m) / sum_j exp(x[r,j] - m) with m = max_j x[r,j]; LOG: its logarithm
//
// x, y     [rows, n] f32      width: n elements, bound for their number
// grid     [rows]: one workgroup a row, each thread strides n by WG, in vec4 where n divides by 4 (BY_4), and keeps for each
//          number of its vec4 the maximum so far and the sum beneath it, which a new maximum scales
// traffic  read x twice (once from cache), write y once: bandwidth-bound
// paper    https://arxiv.org/abs/1805.02867
// measured on 2 busy EPYC cores, a core, 1024 x 2048: 3.0 GB/s, in words of 64 bits a sixth more; with a pass for the
//          maximum 2.5, with barriers too 2.0, without any exp 4.1; an own exp, by polynomial and bits, was no faster
// @header
const WG: u32 = 64; // @const 64 8 256
// @optional LOG BY_4 SUBGROUPS
// @include "elem.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"
const LOWEST: f32 = -3.4028234663852886e38; // where a maximum starts, so that rows masked with it come out uniform

@group(0) @binding(0) var<storage, read> x: array<cell>;
@group(0) @binding(1) var<storage, read> width: array<cell>;
@group(0) @binding(2) var<storage, read_write> y: array<cell>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let n = arrayLength(&width);
  // past the last row that one is made again: a return would cost a CPU a mask on all that follows
  let base = min(flatGroup(group, groups), arrayLength(&y) / n - 1u) * n;
  var top = elem(LOWEST);
  var sums = elem();
  var bits = 0u; // the greatest, without the sign: above those of infinity there was a NaN
  for (var i = thread; i < n; i += WG) {
    let v = taken(x[base + i]);
    let d = v - top;
    let isNew = d > elem();
    let e = exp(-abs(d));
    sums = select(sums + e, sums * e + 1.0, isNew);
    top = select(top, v, isNew);
    bits = max(bits, greatestWord(bitcast<word>(v) << word(1u)));
  }
  let most = workgroupMax(greatest(top), thread);
  sums *= exp(top - most);
  // NaN and infinity, found by their bits
  if (bits > 0xff000000u || bitcast<u32>(greatest(top)) == 0x7f800000u) {
    sums = elem(bitcast<f32>(bits | 0x7fc00000u));
  }
  let sum = workgroupSum(total(sums), thread);
  // @if LOG
  let shift = log(sum);
  for (var i = thread; i < n; i += WG) {
    y[base + i] = put((taken(x[base + i]) - most) - shift);
  }
  // @else
  let scale = 1.0 / sum; // nothing but -infinity: 0 / 0, NaN as in torch
  for (var i = thread; i < n; i += WG) {
    y[base + i] = put(exp(taken(x[base + i]) - most) * scale);
  }
  // @end
}
