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
