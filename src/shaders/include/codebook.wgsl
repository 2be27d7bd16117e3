// codebook: the absmax of a group of codes of a code book; see codebook_matmul.wgsl. dims has, of each part, (its first
// column, where its absmax begins in `groups`, where its nested scales do).
const PART: u32 = 16u; // where they begin in dims

struct Column {
  index: u32, // in the whole matrix
  row: u32, // in its part, of the row-major [N, K] that was quantized
  absmax: u32,
  nested: u32,
}

fn columnOf(index: u32) -> Column {
  var found = Column(index, index, 0u, 0u);
  for (var p = 0u; p < dims[9]; p++) {
    let at = PART + 3u * p;
    if (index >= dims[at]) {
      found = Column(index, index - dims[at], dims[at + 1u], dims[at + 2u]);
    }
  }
  return found;
}

fn absmax(c: Column, k: u32) -> f32 {
  let shift = dims[8]; // a group is 2^shift codes
  // @if FLAT
  let group = (c.row * dims[0] + k) >> shift;
  let at = group;
  // @else
  let group = c.row * dims[10] + (k >> shift);
  let at = (k >> shift) * dims[2] * 4u + c.index;
  // @end
  // @if NESTED
  let code = (groups[c.absmax + at / 4u] >> (8u * (at % 4u))) & 255u;
  let scale = bitcast<f32>(groups[c.nested + 257u + group / 256u]);
  return bitcast<f32>(groups[c.nested + 1u + code]) * scale + bitcast<f32>(groups[c.nested]);
  // @else
  return bitcast<f32>(groups[c.absmax + at]);
  // @end
}
