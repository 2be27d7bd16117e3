// pack_weight: w[k, column + i] = weight[i, k] (or weight[k, i]), converted to the target's dtype
//
// x        [rows, cols] f32, or 16-bit floats two in a u32: a piece of a weight as checkpoints hold it
// w        [K, N4 * 4] f32, or 16-bit floats two in a u32: what matmul reads
// params   (cols of x, N4 * 4, first column of w, first row of w, columns, rows: how many of w are written,
//          column, row: those of w, counted within the piece, with which that begins, columns of a strip, rows of w)
// grid     a thread writes one word of STRIP rows of w; words shared with a neighbour keep the neighbour's half
const STRIP: u32 = 16u;
// @one-of X_F32 X_F16 X_BF16
// @one-of F32 F16 BF16
// @optional TRANSPOSE
// @include "strips.wgsl"
// @include "target_bits.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> params: array<u32>;
@group(0) @binding(2) var<storage, read_write> w: array<u32>;

// An element in the bits of the target's dtype.
fn converted(at: u32) -> u32 {
  // @if X_F32
  return targetBits(x[at]);
  // @else
  return targetBits((x[at >> 1u] >> (16u * (at & 1u))) & 0xffffu);
  // @end
}

// Element i along the columns of w, k along its rows, both counted within the piece.
fn bitsOf(i: u32, k: u32, cols: u32) -> u32 {
  // @if TRANSPOSE
  return converted(i * cols + k);
  // @else
  return converted(k * cols + i);
  // @end
}

// Where a column and a row of w lie.
fn placeOf(column: u32, row: u32) -> u32 {
  let place = inStrips(column, params[8], params[1], params[9]);
  return place.x + row * place.y;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let first = params[2];
  let columns = params[4];
  let depth = params[5];
  let cols = params[0];
  let row = params[3];
  let left = params[6];
  let top = params[7];
  // @if F32
  let words = columns;
  // @else
  let words = (first + columns + 1u) / 2u - first / 2u;
  // @end
  let index = flatGroup(group, groups) * 64u + thread;
  let word = index % words;
  let start = index / words * STRIP;
  for (var k = start; k < min(start + STRIP, depth); k++) {
    // @if F32
    w[placeOf(first + word, row + k)] = bitsOf(left + word, top + k, cols);
    // @else
    let at = placeOf(2u * (first / 2u + word), row + k) / 2u;
    let even = i32(2u * word) - i32(first & 1u); // the piece's column in the low half; -1 and `columns` lie outside
    var both = w[at];
    if (even >= 0) {
      both = (both & 0xffff0000u) | bitsOf(left + u32(even), top + k, cols);
    }
    if (u32(even + 1) < columns) {
      both = (both & 0xffffu) | (bitsOf(left + u32(even + 1), top + k, cols) << 16u);
    }
    w[at] = both;
    // @end
  }
}
