// float_at: numbers of `x`, which may hold 16-bit floats two in a u32; with X_OCTETS eight at a time, from a multiple of 8.
// @if X_OCTETS
@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;

struct Octet {
  a: vec4<f32>,
  b: vec4<f32>,
}

fn octetAt(i: u32) -> Octet {
  // @if X_F32
  return Octet(bitcast<vec4<f32>>(x[i / 4u]), bitcast<vec4<f32>>(x[i / 4u + 1u]));
  // @end
  // @if X_F16
  let v = x[i / 8u];
  return Octet(
    vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)),
    vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w)),
  );
  // @end
  // @if X_BF16
  let v = x[i / 8u];
  return Octet(vec4<f32>(unpackBf16(v.x), unpackBf16(v.y)), vec4<f32>(unpackBf16(v.z), unpackBf16(v.w)));
  // @end
}
// @else
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
// @end
