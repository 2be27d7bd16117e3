// int8_quantize: of each row of x its absmax and its codes round(127 * x / absmax), as LLM.int8() takes them
//
// x        [M, K] f32
// q        [K/32] bits of outlier columns (read); how many they are; [K] which; then of each row absmax, and its codes, 4
//          in a word, 8 words for 32. With OUTLIERS numbers from the threshold on do not count for the absmax, and outlier
//          columns have codes 0
// dims     = (K, threshold as f32 bits)
// grid     [M]: a workgroup a row
// traffic  read x twice, write a quarter: bandwidth-bound
// paper    https://arxiv.org/abs/2208.07339
const WG: u32 = 64u; // @const 64 8
const HUGE: f32 = 3.4e38;
// @optional OUTLIERS
// @include "grid.wgsl"
// @include "reduce.wgsl"
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dims: array<u32>;
@group(0) @binding(2) var<storage, read_write> q: array<u32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) i: u32,
) {
  let K = dims[0];
  let row = flatGroup(group, groups);
  if (row * K >= arrayLength(&x)) {
    return;
  }
  var most = 0.0;
  for (var k = i; k < K; k += WG) {
    let finite = (bitcast<u32>(x[row * K + k]) & 0x7f800000u) != 0x7f800000u;
    let size = select(HUGE, abs(x[row * K + k]), finite);
    // @if OUTLIERS
    most = select(most, max(most, size), size < bitcast<f32>(dims[1]));
    // @else
    most = max(most, size);
    // @end
  }
  let absmax = workgroupMax(most, i);
  let blocks = (K + 31u) / 32u;
  let begin = blocks + 1u + K + row * (8u * blocks + 1u);
  if (i == 0u) {
    q[begin] = select(bitcast<u32>(absmax), 0x7fc00000u, absmax == HUGE); // NaN does not vanish in a code
  }
  // @if OUTLIERS
  if (row == 0u && i == 0u) {
    var count = 0u;
    for (var word = 0u; word < blocks; word++) {
      var bits = q[word];
      while (bits != 0u) {
        q[blocks + 1u + count] = 32u * word + firstTrailingBit(bits);
        bits &= bits - 1u;
        count++;
      }
    }
    q[blocks] = count;
  }
  // @end
  let scale = select(0.0, 1.0 / absmax * 127.0, absmax > 0.0); // in this order, as torch divides 127
  for (var word = i; word < 8u * blocks; word += WG) {
    var codes = 0u;
    for (var c = 0u; c < 4u; c++) {
      let k = 4u * word + c;
      var keep = k < K;
      // @if OUTLIERS
      keep = keep && ((q[k / 32u] >> (k % 32u)) & 1u) == 0u;
      // @end
      let code = i32(round(x[row * K + min(k, K - 1u)] * scale));
      codes |= select(0u, u32(code) & 255u, keep) << (8u * c);
    }
    q[begin + 1u + word] = codes;
  }
}
