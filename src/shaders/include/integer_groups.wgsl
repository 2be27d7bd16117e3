// integer groups: scale and zero of groups of integer codes; see quantized_matmul.wgsl. A run is dims[5] spans of SPAN
// codes, a group 2^dims[8] of them. dims from PERMUTATION on: which number of x each row of W multiplies.
const PERMUTATION: u32 = 16u;
// @include "quads.wgsl"
@group(0) @binding(7) var<storage, read> scales: array<pair>; // groups once more

// Four f16 that lie in words 2 * at and 2 * at + 1 of groups.
fn halvesAt(at: u32) -> vec4<f32> {
  let words = bitcast<vec2<u32>>(fromPair(scales[at]));
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn groupAt(run: u32, column: u32) -> u32 {
  return ((run * dims[5]) >> dims[8]) * dims[2] + column;
}

// @if BLOCKS
// GGUF's blocks: 2^dims[14] groups share d, and dmin from word dims[11] on, as f16 of 4 columns in 2 words; each group
// has steps of them, a byte of 4 columns a word: of d from dims[12] on, of dmin from dims[13] on, or, where both are the
// same, in the low and high halves of a byte. 0: there are none. With dims[15] steps of d have 6 bits, 32 being 0: from
// dims[12] on 4 of them, of 2 groups by 4 columns a word, and from dims[15] on 2 of them, of 4 groups by 4 columns.
fn sharedOf(begin: u32, row: u32, column: u32) -> vec4<f32> {
  return halvesAt(begin / 2u + (row >> dims[14]) * dims[2] + column);
}

fn scaleOf(run: u32, column: u32) -> vec4<f32> {
  let row = (run * dims[5]) >> dims[8];
  let d = sharedOf(0u, row, column);
  if (dims[12] == 0u) {
    return d;
  }
  if (dims[15] > 0u) {
    let low = vec4<u32>(groups[dims[12] + row / 2u * dims[2] + column] >> (16u * (row % 2u))) >> vec4<u32>(0u, 4u, 8u, 12u);
    let high = vec4<u32>(groups[dims[15] + row / 4u * dims[2] + column] >> (8u * (row % 4u))) >> vec4<u32>(0u, 2u, 4u, 6u);
    let six = (low & vec4<u32>(15u)) | ((high & vec4<u32>(3u)) << vec4<u32>(4u));
    return d * (vec4<f32>(six) - 32.0);
  }
  let word = groups[dims[12] + row * dims[2] + column];
  let steps = vec4<i32>((vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u))) >> vec4<u32>(24u);
  return d * vec4<f32>(select(steps, steps & vec4<i32>(15), dims[12] == dims[13]));
}

fn leastOf(run: u32, column: u32) -> vec4<f32> {
  if (dims[11] == 0u) {
    return vec4<f32>();
  }
  let row = (run * dims[5]) >> dims[8];
  let dmin = sharedOf(dims[11], row, column);
  if (dims[13] == 0u) {
    return dmin;
  }
  let word = groups[dims[13] + row * dims[2] + column];
  let steps = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
  return dmin * vec4<f32>(select(steps, steps >> vec4<u32>(4u), dims[12] == dims[13]));
}
// @else
fn scaleOf(run: u32, column: u32) -> vec4<f32> {
  return halvesAt(groupAt(run, column));
}
// @end

fn zeroOf(run: u32, column: u32) -> vec4<f32> {
  let bits = dims[9]; // of a zero; 0: all are dims[10]
  if (bits == 0u) {
    return vec4<f32>(f32(dims[10]));
  }
  let at = groupAt(run, column) * 4u * bits;
  let word = groups[dims[10] + at / 32u] >> (at % 32u);
  let zeros = (vec4<u32>(word) >> (vec4<u32>(0u, 1u, 2u, 3u) * bits)) & vec4<u32>((1u << bits) - 1u);
  return vec4<f32>(zeros);
}
