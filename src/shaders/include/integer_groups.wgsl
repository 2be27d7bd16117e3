// integer groups: scale and zero of groups of integer codes; see quantized_matmul.wgsl. A run is dims[5] spans of SPAN
// codes, a group 2^dims[8] of them. dims from PERMUTATION on: which number of x each row of W multiplies.
const PERMUTATION: u32 = 16u;

fn groupAt(run: u32, column: u32) -> u32 {
  return ((run * dims[5]) >> dims[8]) * dims[2] + column;
}

fn scaleOf(run: u32, column: u32) -> vec4<f32> {
  let at = 2u * groupAt(run, column);
  return vec4<f32>(unpack2x16float(groups[at]), unpack2x16float(groups[at + 1u]));
}

fn zeroOf(run: u32, column: u32) -> vec4<f32> {
  let bits = dims[9]; // of a zero; 0: all are dims[10]
  let at = groupAt(run, column) * 4u * bits;
  let word = groups[dims[10] + at / 32u] >> (at % 32u);
  let zeros = (vec4<u32>(word) >> (vec4<u32>(0u, 1u, 2u, 3u) * bits)) & vec4<u32>((1u << bits) - 1u);
  return vec4<f32>(select(zeros, vec4<u32>(dims[10]), bits == 0u));
}
