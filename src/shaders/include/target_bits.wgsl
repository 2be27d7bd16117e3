// target_bits: an element of a weight, from the bits of its dtype in the checkpoint (X_F32, X_F16, X_BF16) to those of its
// dtype on the GPU (F32, F16, BF16). Where they are equal the bits are copied, NaN and all.
// @include "floats.wgsl"
fn targetBits(bits: u32) -> u32 {
  // @if X_F16
  // @if F16
  return bits;
  // @else
  let value = unpack2x16float(bits).x;
  // @end
  // @end
  // @if X_BF16
  // @if BF16
  return bits;
  // @else
  let value = bitcast<f32>(bits << 16u);
  // @end
  // @end
  // @if X_F32
  // @if F32
  return bits;
  // @else
  let value = bitcast<f32>(bits);
  // @end
  // @end
  // @if F32
  // @if !X_F32
  return bitcast<u32>(value);
  // @end
  // @end
  // @if F16
  // @if !X_F16
  return f16Bits(value);
  // @end
  // @end
  // @if BF16
  // @if !X_BF16
  return bf16Bits(value);
  // @end
  // @end
}
