// normalize: y[r,i] = x[r,i] / max(sqrt(sum_i x[r,i]^2), EPS)
//
// x, y     [rows, dim] f32      width: dim elements, bound for their number
// grid     [rows]: one workgroup a row, each thread strides dim by WG, in vec4 where dim divides by 4 (BY_4)
// traffic  read x twice (the second from cache), write y once: bandwidth-bound
// @header
override EPS: f32 = 1e-12;
const WG: u32 = 64; // @const 64 8 256
// @optional BY_4 SUBGROUPS
// @include "elem.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"

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
  let row = flatGroup(group, groups);
  if (row >= arrayLength(&y) / n) {
    return;
  }
  let base = row * n;
  var sum = elem();
  for (var i = thread; i < n; i += WG) {
    let v = taken(x[base + i]);
    sum += v * v;
  }
  let length = max(sqrt(workgroupSum(total(sum), thread)), EPS);
  for (var i = thread; i < n; i += WG) {
    y[base + i] = put(taken(x[base + i]) / length);
  }
}
