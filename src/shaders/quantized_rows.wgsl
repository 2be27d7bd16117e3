// quantized_rows: y[t,k] = w[k, tokens[t]], columns of a quantized matrix as numbers: an embedding's rows, or all of it
//
// tokens   [T] u32; a column that does not exist gives zeros          y  [T, K] f32
// w, groups, dims   as quantized_matmul (INTEGER), codebook_matmul (CODEBOOK) or int8_matmul (INT8) take them
// grid     [T * K / 64]: a thread a number
// traffic  y once, and the codes' words often, from cache
override BITS: u32 = 4u; // 2 3 4 5 6 8
override LOW: u32 = (BITS & 8u) | (BITS & 4u) | ((BITS & 2u) >> (BITS & 4u)); // 2 2 4 4 4 8
override SPAN: u32 = 32u; // 32 16
override HIGH: u32 = BITS - LOW;
// @one-of INTEGER CODEBOOK INT8
// @optional PERMUTED NESTED FLAT BLOCKS
// @never INTEGER NESTED
// @never INTEGER FLAT
// @never CODEBOOK PERMUTED
// @never CODEBOOK BLOCKS
// @never INT8 NESTED
// @never INT8 FLAT
// @never INT8 PERMUTED
// @never INT8 BLOCKS
// @never PERMUTED BLOCKS
// @include "grid.wgsl"
// @include "codebook.wgsl"
// @if INTEGER
// @include "integer_groups.wgsl"
// @end
// @include "codes.wgsl"
@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read> w: array<wordQuad>;
@group(0) @binding(2) var<storage, read> groups: array<u32>;
@group(0) @binding(3) var<storage, read> dims: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn codeAt(k: u32, n: u32) -> u32 {
  let place = placeOf(n / 4u);
  let base = k / 32u * BITS;
  let at = k % 32u;
  let low = codeWords(place.x + (base + at * LOW / 32u) * place.y)[n % 4u];
  var code = (low >> (at * LOW % 32u)) & ((1u << LOW) - 1u);
  if (HIGH > 0u) {
    let high = codeWords(place.x + (base + LOW + at * HIGH / 32u) * place.y)[n % 4u];
    code |= ((high >> (at * HIGH % 32u)) & ((1u << HIGH) - 1u)) << LOW;
  }
  return code;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) all: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = 64u * flatGroup(group, all) + thread;
  if (i >= arrayLength(&y)) {
    return;
  }
  let K = dims[0];
  let k = i % K;
  let n = tokens[i / K] - dims[6]; // which column of this part; far beyond it where the part begins after
  if (n >= dims[1]) {
    y[i] = 0.0;
    return;
  }
  let code = codeAt(k, n);
  // @if INTEGER
  let run = k / SPAN / dims[5];
  // @if BLOCKS
  let least = leastOf(run, n / 4u)[n % 4u];
  // @else
  let least = 0.0;
  // @end
  let value = scaleOf(run, n / 4u)[n % 4u] * (f32(code) - zeroOf(run, n / 4u)[n % 4u]) - least;
  // @end
  // @if CODEBOOK
  let value = bitcast<f32>(groups[code]) * absmax(columnOf(n), k);
  // @end
  // @if INT8
  let value = f32(bitcast<i32>(code << 24u) >> 24u) * bitcast<f32>(groups[n]) / 127.0;
  // @end
  // @if PERMUTED
  y[i - k + dims[PERMUTATION + k]] = value;
  // @else
  y[i] = value;
  // @end
}
