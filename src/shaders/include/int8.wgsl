// int8: what the kernels of LLM.int8() know of their weights; they declare `w`, `groups` and `dims` as int8_matmul does
const BITS: u32 = 8u;
// @include "codes.wgsl"

fn dot4(a: vec4<u32>, b: u32) -> vec4<i32> {
  return vec4<i32>(dot4I8Packed(a.x, b), dot4I8Packed(a.y, b), dot4I8Packed(a.z, b), dot4I8Packed(a.w, b));
}

// The codes of row k of W in the 4 columns that lie at `place`.
fn codeOf(k: u32, place: vec2<u32>) -> vec4<f32> {
  let word = codeWords(place.x + k / 4u * place.y) << vec4<u32>(24u - 8u * (k % 4u));
  return vec4<f32>(bitcast<vec4<i32>>(word) >> vec4<u32>(24u));
}

// What a code of 4 columns stands for.
fn scaleOf(column: u32) -> vec4<f32> {
  let n = 4u * column;
  let absmax = vec4<u32>(groups[n], groups[n + 1u], groups[n + 2u], groups[n + 3u]);
  return bitcast<vec4<f32>>(absmax) / 127.0;
}
