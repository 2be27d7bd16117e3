// weigh: exp(x - most) of a softmax, for elem of elem.wgsl
const LOWEST: f32 = -3.4028234663852886e38; // where a maximum starts, so that rows masked with it come out uniform

// exp(x - most), whose argument never leaves the range of f32; NaN for NaN and infinity, found by their bits
fn weigh(x: elem, most: f32) -> elem {
  let bits = bitcast<word>(x);
  let broken = ((bits & word(0x7fffffffu)) > word(0x7f800000u)) | (bits == word(0x7f800000u));
  return select(exp(max(x - most, elem(-200.0))), bitcast<elem>(bits | word(0x7fc00000u)), broken);
}
