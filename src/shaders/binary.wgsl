// binary: y[i] = a[i] + b[i mod nb], or the product
//
// a, y     [n] f32      b [nb] f32, repeated along the leading dimensions of a
// grid     [n / 64 / STEPS]: a thread STEPS numbers, vec4s unless nb is no multiple of 4 (BY_4)
// traffic  read a, write y, b from cache unless it is as large: bandwidth-bound
const STEPS: u32 = 1; // @const 1 16
// @one-of ADD MUL
// @optional BY_4
// @include "elem.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> a: array<cell>;
@group(0) @binding(1) var<storage, read> b: array<cell>;
@group(0) @binding(2) var<storage, read_write> y: array<cell>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * 64u * STEPS;
  let end = min(start + 64u * STEPS, arrayLength(&y));
  for (var i = start + thread; i < end; i += 64u) {
    // @if ADD
    y[i] = put(taken(a[i]) + taken(b[i % arrayLength(&b)]));
    // @end
    // @if MUL
    y[i] = put(taken(a[i]) * taken(b[i % arrayLength(&b)]));
    // @end
  }
}
