// float_at: number i of `x`, which may hold 16-bit floats two in a u32.
// @if X_F32
@group(0) @binding(0) var<storage, read> x: array<f32>;
// @else
@group(0) @binding(0) var<storage, read> x: array<u32>;
// @end

fn floatAt(i: u32) -> f32 {
  // @if X_F32
  return x[i];
  // @end
  // @if X_F16
  return unpack2x16float(x[i / 2u])[i % 2u];
  // @end
  // @if X_BF16
  return unpackBf16(x[i / 2u])[i % 2u];
  // @end
}
