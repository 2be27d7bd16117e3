// binary: y[i] = a[i] + b[i mod nb], or the product
//
// a, y     [n] f32      b [nb] f32, repeated along the leading dimensions of a
// grid     [n / WG / STEPS]: a thread STEPS numbers, vec4s unless nb is no multiple of 4 (BY_4)
// traffic  read a, write y, b from cache unless it is as large: bandwidth-bound
const WG: u32 = 64; // @const 64 8
const STEPS: u32 = 1; // @const 1 64
// @never WG=8 STEPS=1
// @never WG=64 STEPS=64
// @one-of ADD MUL
// @optional BY_4
// @include "elem.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> a: array<cell>;
@group(0) @binding(1) var<storage, read> b: array<cell>;
@group(0) @binding(2) var<storage, read_write> y: array<cell>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * WG * STEPS;
  let end = min(start + WG * STEPS, arrayLength(&y));
  let nb = arrayLength(&b);
  let step = WG % nb;
  var j = (start + thread) % nb; // kept up: a remainder is dear
  for (var i = start + thread; i < end; i += WG) {
    // @if ADD
    y[i] = put(taken(a[i]) + taken(b[j]));
    // @end
    // @if MUL
    y[i] = put(taken(a[i]) * taken(b[j]));
    // @end
    j += step;
    j = select(j, j - nb, j >= nb);
  }
}
