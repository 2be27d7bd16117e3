// linear: the matrix and what happens to the sums in every kernel that multiplies by one. The shader declares x.
//
//   y[m, n] = act(sum[m, n] + bias[n]) + residual[m, n], or with GATED, where the columns are two halves,
//   y[m, n] = act(sum[m, n] + bias[n]) * (sum[m, N/2 + n] + bias[N/2 + n]) + residual[m, n]
//
// w        [K, N4 * 4] f32, or 16-bit floats two in a u32, in strips of columns, each [K, its columns], one after the other:
//          a CPU reads its memory fastest in order; columns past N are never used
// y        [PARTS, M, width / PARTS] f32: blocks of columns one after the other
// dims     (K, N, N4, width: columns of y over all parts, and of the bias; offset: the column of y that is the matrix's first;
//          vec4s of a row of a strip; the last strip may have less). With GATED y has half of the columns, and a matrix may
//          hold some of the first half, then as many of the second
override PARTS: u32 = 1u; // 2 with GATED, whose halves make one part
// @include "floats.wgsl"
// @include "quads.wgsl"
// @include "strips.wgsl"
// @include "activated.wgsl"

// @if F32
@group(0) @binding(1) var<storage, read> w: array<quad>;
// @else
// @if WIDE
@group(0) @binding(1) var<storage, read> w: array<wordQuad>;
// @else
// @if INT64
@group(0) @binding(1) var<storage, read> w: array<u64>;
// @else
@group(0) @binding(1) var<storage, read> w: array<vec2<u32>>;
// @end
// @end
// @end
@group(0) @binding(2) var<storage, read> dims: array<u32>;
// @if N_BY_4
// @if BIAS
@group(0) @binding(3) var<storage, read> bias: array<quad>;
// @end
// @if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<quad>;
// @end
@group(0) @binding(5) var<storage, read_write> y: array<quad>;
// @else
// @if BIAS
@group(0) @binding(3) var<storage, read> bias: array<f32>;
// @end
// @if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>;
// @end
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
// @end

// @if !F32
fn unpack(words: vec2<u32>) -> vec4<f32> {
  // @if F16
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
  // @else
  return vec4<f32>(unpackBf16(words.x), unpackBf16(words.y));
  // @end
}
// @end

// @if !WIDE
fn weight(at: u32) -> vec4<f32> {
  // @if F32
  return fromQuad(w[at]);
  // @else
  // @if INT64
  return unpack(wordsOf(w[at]));
  // @else
  return unpack(w[at]);
  // @end
  // @end
}

// Four rows of w from `at` on, `step` apart.
fn weights(at: u32, step: u32) -> mat4x4<f32> {
  return mat4x4<f32>(weight(at), weight(at + step), weight(at + 2u * step), weight(at + 3u * step));
}
// @end

// Where the four columns `column` begin in w, and the step from row to row.
fn columnOf(column: u32) -> vec2<u32> {
  return inStrips(column, dims[5], dims[2], dims[0]);
}

// Where column `n` of row 0 of y lies, and how far the rows are apart, both in units of which a column has `unit` numbers.
fn placeOf(n: u32, rows: u32, unit: u32) -> vec2<u32> {
  let width = dims[3] / PARTS / unit;
  let column = dims[4] / unit + n;
  if (PARTS == 1u) {
    return vec2<u32>(column, width);
  }
  return vec2<u32>(column / width * rows * width + column % width, width);
}

// @if N_BY_4
// Where the sums of four columns go, and what is added to them: the same for all rows, so loaded once.
struct Target {
  place: vec2<u32>, // of row 0 of y, and how far the rows are apart
  bias: vec4<f32>,
  // @if GATED
  upBias: vec4<f32>, // of the second half
  // @end
}

// The target of the four columns from 4 * column on; `rows` is the number of rows of y.
fn targetOf(rows: u32, column: u32) -> Target {
  let n = dims[4] / 4u + column;
  // @if BIAS
  let bias4 = fromQuad(bias[n]);
  // @else
  let bias4 = vec4<f32>();
  // @end
  // @if GATED
  let half = dims[3] / 8u;
  // @if BIAS
  return Target(vec2<u32>(n, half), bias4, fromQuad(bias[half + n]));
  // @else
  return Target(vec2<u32>(n, half), bias4, bias4);
  // @end
  // @else
  return Target(placeOf(column, rows, 4u), bias4);
  // @end
}

fn put(t: Target, row: u32, value: vec4<f32>) {
  let at = t.place.x + row * t.place.y;
  // @if RESIDUAL
  y[at] = toQuad(value + fromQuad(residual[at]));
  // @else
  y[at] = toQuad(value);
  // @end
}

// @if GATED
fn storeGated(t: Target, row: u32, gate: vec4<f32>, up: vec4<f32>) {
  put(t, row, activated4(gate + t.bias) * (up + t.upBias));
}
// @else
fn store(t: Target, row: u32, sum: vec4<f32>) {
  put(t, row, activated4(sum + t.bias));
}
// @end
// @else
struct Target {
  rows: u32,
  column: u32,
}

fn targetOf(rows: u32, column: u32) -> Target {
  return Target(rows, column);
}

// @if GATED
// Halves that do not divide by 4 are gated by another kernel.
fn storeGated(t: Target, row: u32, gate: vec4<f32>, up: vec4<f32>) {}
// @else
fn store(t: Target, row: u32, sum: vec4<f32>) {
  for (var c = 0u; c < min(4u, dims[1] - 4u * t.column); c++) {
    let n = 4u * t.column + c;
    let place = placeOf(n, t.rows, 1u);
    let at = place.x + row * place.y;
    var value = sum[c];
    // @if BIAS
    value += bias[dims[4] + n];
    // @end
    value = activated(value);
    // @if RESIDUAL
    value += residual[at];
    // @end
    y[at] = value;
  }
}
// @end
// @end
