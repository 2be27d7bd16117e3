// quads: four numbers or words, a pair, or eight numbers, as they lie in a buffer. A driver on the CPU loads and stores each word of each lane by
// itself, and one of 64 bits costs it no more than one of 32, so where it has them a quad is two of those (INT64).
// @if INT64
alias quad = vec2<u64>;
alias wordQuad = vec2<u64>;
alias pair = u64;
alias eight = vec4<u64>;

fn wordsOf(pair: u64) -> vec2<u32> {
  return vec2<u32>(u32(pair), u32(pair >> 32u));
}

fn fromWordQuad(v: wordQuad) -> vec4<u32> {
  return vec4<u32>(wordsOf(v.x), wordsOf(v.y));
}

fn fromQuad(v: quad) -> vec4<f32> {
  return bitcast<vec4<f32>>(fromWordQuad(v));
}

fn fromPair(v: pair) -> vec2<f32> {
  return bitcast<vec2<f32>>(wordsOf(v));
}

fn pairOf(words: vec2<u32>) -> u64 {
  return u64(words.x) | (u64(words.y) << 32u);
}

fn toQuad(v: vec4<f32>) -> quad {
  let words = bitcast<vec4<u32>>(v);
  return vec2<u64>(pairOf(words.xy), pairOf(words.zw));
}

fn fromEight(v: eight) -> mat2x4<f32> {
  return mat2x4<f32>(fromQuad(v.xy), fromQuad(v.zw));
}

fn toEight(v: mat2x4<f32>) -> eight {
  return vec4<u64>(toQuad(v[0]), toQuad(v[1]));
}
// @else
alias quad = vec4<f32>;
alias wordQuad = vec4<u32>;
alias pair = vec2<f32>;
alias eight = mat2x4<f32>;

fn fromWordQuad(v: wordQuad) -> vec4<u32> {
  return v;
}

fn fromQuad(v: quad) -> vec4<f32> {
  return v;
}

fn toQuad(v: vec4<f32>) -> quad {
  return v;
}

fn fromPair(v: pair) -> vec2<f32> {
  return v;
}

fn fromEight(v: eight) -> mat2x4<f32> {
  return v;
}

fn toEight(v: mat2x4<f32>) -> eight {
  return v;
}
// @end
