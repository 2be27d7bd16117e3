// unpack_codes: columns of a matrix of codes as numbers, which matmul then multiplies by many rows: to unpack a code takes as long
// as to multiply it by 20 rows or less, and quantized_matmul unpacks it anew for every 4
//
// w, groups, dims  as quantized_matmul (INTEGER), codebook_matmul (CODEBOOK) or int8_matmul (INT8) take them
// before   one word more than there are columns before the first, by 16: lengths need no write from the host
// y        [K, columns of it] f32 in strips, as linear.wgsl reads them; PERMUTED: each row where its input stands
// sizes    what linear.wgsl calls dims of that
// bias     [columns of the product]: those that are unpacked get theirs
// grid     [columns / 32, K / 128]: a thread unpacks 4 columns of 128 inputs; with HALVES = 2 half of the columns are
//          of each half of the matrix, so that a gate has both
// traffic  w once, y once
// measured on 2 EPYC cores that other work shares, a core: 4 and 8 bits in groups of 128 0.7e9 numbers/s, NF4 0.5e9
// @header
override BITS: u32 = 4u; // 2 3 4 5 6 8
override LOW: u32 = (BITS & 8u) | (BITS & 4u) | ((BITS & 2u) >> (BITS & 4u)); // 2 2 4 4 4 8
override SPAN: u32 = 32u; // 32 16
override HIGH: u32 = BITS - LOW;
override HALVES: u32 = 1u;
override Y_STRIP: u32 = 8u; // columns by 4 of a strip of y
const DEPTH: u32 = 128u;
const UNIT: u32 = 4u; // columns by 4 that `before` counts
// @one-of INTEGER CODEBOOK INT8
// @one-of ALONE SUBGROUPS
// @optional BIAS PERMUTED NESTED FLAT BLOCKS
// @never INTEGER NESTED
// @never INTEGER FLAT
// @never CODEBOOK PERMUTED
// @never CODEBOOK BLOCKS
// @never INT8 NESTED
// @never INT8 FLAT
// @never INT8 PERMUTED
// @never INT8 BLOCKS
// @never PERMUTED BLOCKS
// @include "codes.wgsl"
// @if INTEGER
// @include "integer_groups.wgsl"
// @end
@group(0) @binding(0) var<storage, read> w: array<wordQuad>;
@group(0) @binding(1) var<storage, read> groups: array<u32>;
@group(0) @binding(2) var<storage, read> dims: array<u32>;
@group(0) @binding(3) var<storage, read> before: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<quad>;
@group(0) @binding(5) var<storage, read_write> sizes: array<u32>;
// @if BIAS
@group(0) @binding(6) var<storage, read_write> bias: array<f32>;
// @end

// @if INTEGER
// What 4 columns have in a span.
struct Scales {
  scale: vec4<f32>,
  zero: vec4<f32>,
  // @if BLOCKS
  least: vec4<f32>,
  // @end
}

fn scalesOf(span: u32, column: u32) -> Scales {
  let run = span / dims[5];
  // @if BLOCKS
  return Scales(scaleOf(run, column), zeroOf(run, column), leastOf(run, column));
  // @else
  return Scales(scaleOf(run, column), zeroOf(run, column));
  // @end
}

fn numbers(code: vec4<u32>, k: u32, column: u32, s: Scales, first: u32) -> vec4<f32> {
  let value = s.scale * (vec4<f32>(bitcast<vec4<i32>>(code)) - s.zero);
  // @if BLOCKS
  return value - s.least;
  // @else
  return value;
  // @end
}
// @end
// @if CODEBOOK
// @include "codebook.wgsl"
// @include "book.wgsl"
alias Scales = vec4<f32>;

fn absmaxOf(k: u32, column: u32) -> vec4<f32> {
  let n = 4u * column;
  return vec4<f32>(absmax(columnOf(n), k), absmax(columnOf(n + 1u), k), absmax(columnOf(n + 2u), k), absmax(columnOf(n + 3u), k));
}

fn scalesOf(span: u32, column: u32) -> Scales {
  // @if FLAT
  return Scales();
  // @else
  return absmaxOf(span * SPAN, column);
  // @end
}

fn numbers(code: vec4<u32>, k: u32, column: u32, s: Scales, first: u32) -> vec4<f32> {
  // @if FLAT
  return entries(code, first) * absmaxOf(min(k, dims[0] - 1u), column);
  // @else
  return entries(code, first) * s;
  // @end
}
// @end
// @if INT8
alias Scales = vec4<f32>;

fn scalesOf(span: u32, column: u32) -> Scales {
  let n = 4u * column;
  return bitcast<vec4<f32>>(vec4<u32>(groups[n], groups[n + 1u], groups[n + 2u], groups[n + 3u]));
}

fn numbers(code: vec4<u32>, k: u32, column: u32, s: Scales, first: u32) -> vec4<f32> {
  return vec4<f32>(bitcast<vec4<i32>>(code << vec4<u32>(24u)) >> vec4<u32>(24u)) * s / 127.0;
}
// @end

@compute @workgroup_size(8)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  // @if SUBGROUPS
  @builtin(subgroup_invocation_id) lane: u32,
  // @end
) {
  // @if !SUBGROUPS
  let lane = 0u;
  // @end
  let K = dims[0];
  let N4 = dims[2];
  let columns = arrayLength(&y) / K; // that are unpacked, by 4
  let skipped = (arrayLength(&before) - 1u) * UNIT;
  let mine = min(8u * group.x + thread, columns - 1u); // threads past the end repeat the last column
  let column = skipped + mine + select(N4 / 2u - columns / 2u, 0u, mine < columns / HALVES);
  let place = placeOf(column);
  let to = inStrips(mine, Y_STRIP, columns, K);
  // @if CODEBOOK
  openBook(thread, 8u, lane);
  // @end
  let first = lane & ~7u;

  let begin = group.y * DEPTH / SPAN;
  for (var span = begin; span < min(begin + DEPTH / SPAN, (K + SPAN - 1u) / SPAN); span++) {
    let scales = scalesOf(span, column);
    for (var o = 0u; o < SPAN / 8u; o++) {
      let octet = span * (SPAN / 8u) + o;
      let row = octet / 4u * BITS; // of the block of 32 that it lies in
      let at = place.x + (row + octet % 4u * LOW / 4u) * place.y;
      var low = codeWords(at) >> vec4<u32>(octet * 8u * LOW % 32u); // 8 codes, or 4 of 8 bits
      var high = vec4<u32>();
      if (HIGH > 0u) {
        high = codeWords(place.x + (row + LOW + octet % 4u * HIGH / 4u) * place.y) >> vec4<u32>(octet * 8u * HIGH % 32u);
      }
      // @unroll
      for (var i = 0u; i < 8u; i++) {
        if (LOW == 8u && i == 4u) {
          low = codeWords(at + place.y);
        }
        var code = (low >> vec4<u32>(i * LOW % 32u)) & vec4<u32>((1u << LOW) - 1u);
        if (HIGH > 0u) {
          code |= ((high >> vec4<u32>(i * HIGH)) & vec4<u32>((1u << HIGH) - 1u)) << vec4<u32>(LOW);
        }
        let k = 8u * octet + i;
        let four = numbers(code, k, column, scales, first);
        if (k < K) {
          // @if PERMUTED
          y[to.x + dims[PERMUTATION + k] * to.y] = toQuad(four);
          // @else
          y[to.x + k * to.y] = toQuad(four);
          // @end
        }
      }
    }
  }

  if (group.y > 0u) {
    return;
  }
  // @if BIAS
  for (var c = 0u; c < min(4u, dims[1] - 4u * column); c++) {
    let n = 4u * column + c;
    bias[dims[6] + n] = bitcast<f32>(groups[dims[7] + n]);
  }
  // @end
  if (group.x == 0u && thread == 0u) {
    sizes[0] = K;
    sizes[1] = select(4u * columns, min(4u * columns, dims[1] - 4u * skipped), HALVES == 1u);
    sizes[2] = columns;
    sizes[3] = dims[3];
    sizes[4] = dims[6] + 4u * skipped;
    sizes[5] = Y_STRIP;
  }
}
