// cross_entropy: y[r] = log(sum_j exp(x[r,j])) - x[r,targets[r]]
//
// x        [rows, n] f32      targets [rows] u32      y [rows] f32
// grid     [rows]: one workgroup a row, each thread strides n by WG, in vec4 where n divides by 4 (BY_4)
// traffic  read x twice (once from cache): bandwidth-bound
// @header
const WG: u32 = 64; // @const 64 8 256
// @optional BY_4 SUBGROUPS
// @include "elem.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"
// @include "weigh.wgsl"

@group(0) @binding(0) var<storage, read> x: array<elem>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

fn at(row: u32, n: u32, i: u32) -> f32 {
  // @if BY_4
  let four = x[row * n + i / 4u];
  return four[i % 4u];
  // @else
  return x[row * n + i];
  // @end
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let rows = arrayLength(&y);
  let n = arrayLength(&x) / rows;
  let row = flatGroup(group, groups);
  if (row >= rows) {
    return;
  }
  var most = LOWEST;
  for (var i = thread; i < n; i += WG) {
    most = max(most, greatest(x[row * n + i]));
  }
  most = workgroupMax(most, thread);
  var sums = elem();
  for (var i = thread; i < n; i += WG) {
    sums += weigh(x[row * n + i], most);
  }
  let sum = workgroupSum(total(sums), thread);
  if (thread == 0u) {
    let wanted = targets[row];
    let nan = bitcast<f32>(bitcast<u32>(sum) | 0x7fc00000u);
    y[row] = select(nan, log(sum) - (at(row, n, min(wanted, n * LANES - 1u)) - most), wanted < n * LANES);
  }
}
