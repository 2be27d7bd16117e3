// cast: y[i] = x[i] in another dtype: floats to nearest even, 16-bit ones to infinity past their range;
//       floats to integers towards zero, held within the range; integers to integers by their low bits
//
// x, y     [n] words of 32 bits, or 16-bit floats two in a word, low half first
// grid     [n / 128]: a thread two elements
// traffic  read x, write y: bandwidth-bound
// @one-of X_F32 X_F16 X_BF16 X_I32 X_U32
// @one-of F32 F16 BF16 I32 U32
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

// @if X_F16
fn load(pair: u32) -> vec2<f32> { return unpack2x16float(x[pair]); }
// @end
// @if X_BF16
fn load(pair: u32) -> vec2<f32> { return unpackBf16(x[pair]); }
// @end
// @if X_F32
fn load(pair: u32) -> vec2<f32> { return bitcast<vec2<f32>>(words(pair)); }
// @end
// @if X_I32
fn load(pair: u32) -> vec2<i32> { return bitcast<vec2<i32>>(words(pair)); }
// @end
// @if X_U32
fn load(pair: u32) -> vec2<u32> { return words(pair); }
// @end

// two words; past an odd end, a zero
fn words(pair: u32) -> vec2<u32> {
  let second = 2u * pair + 1u;
  return vec2<u32>(x[2u * pair], select(0u, x[min(second, arrayLength(&x) - 1u)], second < arrayLength(&x)));
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let pair = flatGroup(group, groups) * 64u + thread;
  // @if F16
  if (pair < arrayLength(&y)) {
    y[pair] = packF16(vec2<f32>(load(pair)));
  }
  // @end
  // @if BF16
  if (pair < arrayLength(&y)) {
    y[pair] = packBf16(vec2<f32>(load(pair)));
  }
  // @end
  // @if F32
  store(pair, bitcast<vec2<u32>>(vec2<f32>(load(pair))));
  // @end
  // @if I32
  store(pair, bitcast<vec2<u32>>(vec2<i32>(load(pair))));
  // @end
  // @if U32
  store(pair, vec2<u32>(load(pair)));
  // @end
}

fn store(pair: u32, value: vec2<u32>) {
  if (2u * pair < arrayLength(&y)) {
    y[2u * pair] = value.x;
  }
  if (2u * pair + 1u < arrayLength(&y)) {
    y[2u * pair + 1u] = value.y;
  }
}
