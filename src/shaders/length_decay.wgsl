// length_decay: y[b,t] = x[b,t] + |x[b,t]| * (factor^k - 1) for the tokens t that end a row, k = step - start above 0;
// else x[b,t]
//
// x, y     [B, V] f32      width: V elements, bound for their number      step [1] u32
// settings (start, tokens that end a row …) u32      factor [1] f32
// grid     [B * V / BLOCK], 64 threads a workgroup
// traffic  read x, write y: bandwidth-bound
const BLOCK: u32 = 512u;
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> width: array<f32>;
@group(0) @binding(2) var<storage, read> settings: array<u32>;
@group(0) @binding(3) var<storage, read> factor: array<f32>;
@group(0) @binding(4) var<storage, read> step: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

// by squaring, since pow() loses digits; what overflows stays finite
fn power(base: f32, exponent: u32) -> f32 {
  var result = 1.0;
  var square = base;
  for (var bits = exponent; bits > 0u; bits >>= 1u) {
    if ((bits & 1u) == 1u) {
      result = min(result * square, 1e30);
    }
    square = min(square * square, 1e19);
  }
  return result;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * BLOCK;
  let end = min(start + BLOCK, arrayLength(&y));
  let V = arrayLength(&width);
  let k = max(step[0], settings[0]) - settings[0];
  let growth = power(factor[0], k) - 1.0;
  for (var i = start + thread; i < end; i += 64u) {
    let value = x[i];
    var ends = false;
    for (var j = 1u; j < arrayLength(&settings); j++) {
      ends = ends || settings[j] == i % V;
    }
    y[i] = select(value, value + min(abs(value), 1e8) * min(growth, 1e22), ends && k > 0u && value > NEG);
  }
}
