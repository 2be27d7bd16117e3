// cast: y[i] = x[i] in another dtype: floats to nearest even, 16-bit ones to infinity past their range;
//       floats to integers towards zero, held within the range; integers to integers by their low bits
//
// x, y     [n / 4] vec4 of words of 32 bits, or 16-bit floats two in a word of a vec2, low half first: the last of them
//          may reach into the padding that every buffer has
// grid     [n / 4 / WG / STEPS]: a thread STEPS times four elements
// traffic  read x, write y: bandwidth-bound
const WG: u32 = 64; // @const 64 8
const STEPS: u32 = 1; // @const 1 64
// @never WG=8 STEPS=1
// @never WG=64 STEPS=64
// @one-of X_F32 X_F16 X_BF16 X_I32 X_U32
// @one-of F32 F16 BF16 I32 U32
// @include "floats.wgsl"
// @include "grid.wgsl"

// @if X_F16
@group(0) @binding(0) var<storage, read> x: array<vec2<u32>>;
fn load(i: u32) -> vec4<f32> { return vec4<f32>(unpack2x16float(x[i].x), unpack2x16float(x[i].y)); }
// @end
// @if X_BF16
@group(0) @binding(0) var<storage, read> x: array<vec2<u32>>;
fn load(i: u32) -> vec4<f32> { return vec4<f32>(unpackBf16(x[i].x), unpackBf16(x[i].y)); }
// @end
// @if X_F32
@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
fn load(i: u32) -> vec4<f32> { return bitcast<vec4<f32>>(x[i]); }
// @end
// @if X_I32
@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
fn load(i: u32) -> vec4<i32> { return bitcast<vec4<i32>>(x[i]); }
// @end
// @if X_U32
@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
fn load(i: u32) -> vec4<u32> { return x[i]; }
// @end

// @if F16
@group(0) @binding(1) var<storage, read_write> y: array<vec2<u32>>;
fn store(i: u32, v: vec4<f32>) { y[i] = vec2<u32>(packF16(v.xy), packF16(v.zw)); }
// @end
// @if BF16
@group(0) @binding(1) var<storage, read_write> y: array<vec2<u32>>;
fn store(i: u32, v: vec4<f32>) { y[i] = vec2<u32>(packBf16(v.xy), packBf16(v.zw)); }
// @end
// @if F32
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;
fn store(i: u32, v: vec4<f32>) { y[i] = bitcast<vec4<u32>>(v); }
// @end
// @if I32
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;
fn store(i: u32, v: vec4<i32>) { y[i] = bitcast<vec4<u32>>(v); }
// @end
// @if U32
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;
fn store(i: u32, v: vec4<u32>) { y[i] = v; }
// @end

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * WG * STEPS;
  let end = min(start + WG * STEPS, arrayLength(&y));
  for (var i = start + thread; i < end; i += WG) {
    // @if I32
    store(i, vec4<i32>(load(i)));
    // @end
    // @if U32
    store(i, vec4<u32>(load(i)));
    // @end
    // @if !I32
    // @if !U32
    store(i, vec4<f32>(load(i)));
    // @end
    // @end
  }
}
