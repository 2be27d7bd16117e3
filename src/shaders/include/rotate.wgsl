// rotate: the dimensions of pair p of a head, of which those below `half` rotate and the others pass, and the rotation.
fn pairOf(p: u32, half: u32) -> vec2<u32> {
  // @if !INTERLEAVED
  if (p < half) {
    return vec2<u32>(p, p + half);
  }
  // @end
  return vec2<u32>(2u * p, 2u * p + 1u);
}

fn rotate(pair: vec2<f32>, cosine: f32, sine: f32) -> vec2<f32> {
  return pair * cosine + vec2<f32>(-pair.y, pair.x) * sine;
}
