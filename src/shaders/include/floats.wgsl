// floats: 16-bit floats kept two in a u32, low half first; no device feature is needed to read or write them.
const NEG: f32 = -1e30; // stands for -infinity, which WGSL cannot write

fn unpackBf16(word: u32) -> vec2<f32> {
  return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

// round to nearest, ties to even; NaN keeps its sign and becomes quiet
fn bf16Bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  return select(rounded, (bits >> 16u) | 0x40u, (bits & 0x7fffffffu) > 0x7f800000u);
}

fn packBf16(v: vec2<f32>) -> u32 {
  return bf16Bits(v.x) | (bf16Bits(v.y) << 16u);
}

// round to nearest, ties to even; infinity from 65520 on, subnormals kept
fn f16Bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return sign | 0x7e00u;
  }
  if (magnitude >= 0x47800000u) { // 65536
    return sign | 0x7c00u;
  }
  if (magnitude >= 0x38800000u) { // 2^-14, the least normal one
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
  }
  if (magnitude < 0x33000000u) { // 2^-25, half of the least subnormal one
    return sign;
  }
  let shift = 126u - (magnitude >> 23u); // 14 to 24
  let digits = (magnitude & 0x7fffffu) | 0x800000u;
  return sign | ((digits + (1u << (shift - 1u)) - 1u + ((digits >> shift) & 1u)) >> shift);
}

fn packF16(v: vec2<f32>) -> u32 {
  return f16Bits(v.x) | (f16Bits(v.y) << 16u);
}

// as packF16, but finite numbers beyond 65504 become 65504: activations overflow, and only NaN and infinity are errors
fn packF16Saturated(v: vec2<f32>) -> u32 {
  let bits = bitcast<vec2<u32>>(v);
  let magnitude = bits & vec2<u32>(0x7fffffffu);
  let isNan = magnitude > vec2<u32>(0x7f800000u);
  let special = ((bits >> vec2<u32>(16u)) & vec2<u32>(0x8000u)) | select(vec2<u32>(0x7c00u), vec2<u32>(0x7e00u), isNan);
  let packed = pack2x16float(clamp(v, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
  let isSpecial = magnitude >= vec2<u32>(0x7f800000u);
  let halves = select(vec2<u32>(packed & 0xffffu, packed >> 16u), special, isSpecial);
  return halves.x | (halves.y << 16u);
}
