// int8_round: x as LLM.int8() multiplies it, in numbers: y[m,k] = round(127 * x[m,k] / absmax[m]) * absmax[m] / 127, but x[m,k]
// in columns of outliers, which do not count for the absmax. For many rows on CPUs, whose weights become numbers too
//
// x, y     [M, K] f32
// q        [K/32] bits of outlier columns, as int8_outliers leaves them
// dims     = (K, threshold as f32 bits)
// grid     [M]: a workgroup a row, in vec4 where K divides by 4 (BY_4)
// traffic  read x twice (the second from cache), write y once: bandwidth-bound
// paper    https://arxiv.org/abs/2208.07339
// @header
const WG: u32 = 8u; // @const
const HUGE: f32 = 3.4e38;
// @optional OUTLIERS BY_4 SUBGROUPS
// @include "elem.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"
@group(0) @binding(0) var<storage, read> x: array<cell>;
@group(0) @binding(1) var<storage, read> dims: array<u32>;
// @if OUTLIERS
@group(0) @binding(2) var<storage, read> q: array<u32>;
// @end
@group(0) @binding(3) var<storage, read_write> y: array<cell>;

// @if OUTLIERS
// `rounded`, but what of v, the numbers from k on, lies in columns of outliers.
fn withOutliers(v: elem, rounded: elem, k: u32) -> elem {
  let bits = q[k / 32u] >> (k % 32u);
  // @if BY_4
  return select(rounded, v, (vec4<u32>(bits) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>());
  // @else
  return select(rounded, v, (bits & 1u) != 0u);
  // @end
}
// @end

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let n = dims[0] / LANES;
  // past the last row that one is made again: a return would cost a CPU a mask on all that follows
  let base = min(flatGroup(group, groups), arrayLength(&x) / n - 1u) * n;
  var most = elem();
  for (var i = thread; i < n; i += WG) {
    let bits = bitcast<word>(taken(x[base + i])) & word(0x7fffffffu);
    let size = select(bitcast<elem>(bits), elem(HUGE), bits >= word(0x7f800000u));
    // @if OUTLIERS
    most = max(most, select(elem(), size, size < elem(bitcast<f32>(dims[1]))));
    // @else
    most = max(most, size);
    // @end
  }
  let absmax = workgroupMax(greatest(most), thread);
  let scale = select(0.0, 1.0 / absmax * 127.0, absmax > 0.0); // in this order, as torch divides 127
  let unit = bitcast<f32>(select(bitcast<u32>(absmax / 127.0), 0x7fc00000u, absmax == HUGE)); // NaN does not vanish in a code
  for (var i = thread; i < n; i += WG) {
    let v = taken(x[base + i]);
    let rounded = round(v * scale) * unit;
    // @if OUTLIERS
    y[base + i] = put(withOutliers(v, rounded, LANES * i));
    // @else
    y[base + i] = put(rounded);
    // @end
  }
}
