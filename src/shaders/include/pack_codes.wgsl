// pack codes: writes rows of 32 codes as BITS words, the layout of quantized.wgsl. The shader declares the bindings
// `params` and `w` (u32, changed in place) and codeAt(n, k), the code of input k of row n of the piece, for k < K.
// params   = (rows of the piece, K, columns of w, column of w of the piece's first row, LOW, HIGH, code beyond K,
//             columns of a strip, and what else codeAt needs from 8 on)
// @include "grid.wgsl"
// @include "word_place.wgsl"

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = 64u * flatGroup(group, groups) + thread;
  let rows = params[0];
  let K = params[1];
  let n = i % rows;
  let block = i / rows;
  if (32u * block >= K) {
    return;
  }
  let low = params[4];
  let high = params[5];
  let place = wordPlace(params[3] + n);
  for (var word = 0u; word < low + high; word++) {
    let first = word < low;
    let bits = select(high, low, first);
    let skip = select(low, 0u, first); // bits of a code that are in the other rows
    let start = 32u * block + select(word - low, word, first) * (32u / bits);
    var packed = 0u;
    for (var j = 0u; j < 32u / bits; j++) {
      var code = params[6];
      if (start + j < K) {
        code = codeAt(n, start + j);
      }
      packed |= ((code >> skip) & ((1u << bits) - 1u)) << (j * bits);
    }
    w[place.x + (block * (low + high) + word) * place.y] = packed;
  }
}
