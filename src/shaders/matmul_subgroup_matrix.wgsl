// matmul_subgroup_matrix: matmul of many rows by the matrix units of a GPU, which Dawn offers as subgroup matrices: tiles of x
// and w go through workgroup memory, of which subgroups load fragments; each keeps ROWS x COLUMNS fragments of y
//
// x        [M, K] f32; K divides by 4       w  [K, N]       y  [M, N] f32       as in matmul and include/linear.wgsl
// numbers  are multiplied as f16, to which x is rounded, or, where w is f32, as f32; sums are f32. A workgroup whose x or
//          bf16 w has what f16 has not (from 65520 on, infinity, NaN) multiplies anew by plain f32; less than 2^-25 is 0
// grid     [N / WIDTH, M / HEIGHT]: DOWN x ACROSS subgroups of LANES threads; with GATED the first half of a subgroup's
//          columns are of the first half of w
// traffic  x N/WIDTH times, w M/HEIGHT times
enable chromium_experimental_subgroup_matrix;
enable subgroups;
// @if !F32
enable f16;
// @end
diagnostic(off, chromium.subgroup_matrix_uniformity);
// @one-of F32 F16 BF16
// @optional BIAS RESIDUAL N_BY_4 GATED
// @include "linear.wgsl"
const LANES: u32 = 32; // @const
const SIDE_M: u32 = 16; // @const
const SIDE_N: u32 = 16; // @const
const SIDE_K: u32 = 16; // @const
const DOWN: u32 = 2; // @const
const ACROSS: u32 = 2; // @const
const ROWS: u32 = 4; // @const
const COLUMNS: u32 = 4; // @const
const DEPTH: u32 = 32; // @const
const X_UNITS: u32 = 4; // @const
const W_UNITS: u32 = 4; // @const

// @if F32
alias number = f32;
const UNIT: u32 = 4; // numbers of 16 bytes, in which tiles lie
// @else
alias number = f16;
const UNIT: u32 = 8;
// @end
const SUBGROUPS: u32 = DOWN * ACROSS;
const THREADS: u32 = SUBGROUPS * LANES;
const HEIGHT: u32 = DOWN * ROWS * SIDE_M;
const SPAN: u32 = COLUMNS * SIDE_N; // columns of a subgroup
const WIDTH: u32 = ACROSS * SPAN;
const X_LINE: u32 = DEPTH / UNIT; // units of a row
const W_LINE: u32 = WIDTH / UNIT;
const X_STEP: u32 = X_LINE + 1u; // a row later is not in the same banks
const W_STEP: u32 = W_LINE + 1u;
const Y_STEP: u32 = WIDTH / 4u + 1u;
const W_FROM: u32 = HEIGHT * X_STEP;
const BEYOND: u32 = 0x477ff000u; // 65520.0, the least that rounds to infinity in f16
// @if GATED
const HALVES: u32 = 2;
// @else
const HALVES: u32 = 1;
// @end
const PART: u32 = SPAN / 4u / HALVES; // columns of four that a subgroup has of y
const STORED: u32 = ACROSS * PART; // and the workgroup

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;

var<workgroup> tile: array<vec4<u32>, max(W_FROM + DEPTH * W_STEP, DOWN * SIDE_M * Y_STEP)>; // of x and w, then of y
var<workgroup> redo: atomic<u32>;
var<private> nextX: array<vec4<u32>, X_UNITS>;
var<private> nextW: array<vec4<u32>, W_UNITS>;
var<private> places: array<vec2<u32>, UNIT / 4u>; // of this thread's columns of w
// @if !F32
var<private> largest: vec4<u32>; // bits of the largest numbers that were rounded
var<private> used: array<vec4<u32>, UNIT / 4u>; // of this thread's columns of w, all bits but the sign's; else none

fn rounded(v: vec4<f32>, bits: vec4<u32>) -> vec2<u32> {
  largest = max(largest, bitcast<vec4<u32>>(v) & bits);
  return bitcast<vec2<u32>>(vec4<f16>(v));
}
// @end

fn xAt(start: u32, k4: u32, K4: u32) -> vec4<f32> {
  return select(vec4<f32>(), x[start + min(k4, K4 - 1u)], k4 < K4);
}

fn unitOfX(start: u32, k4: u32, K4: u32) -> vec4<u32> {
  // @if F32
  return bitcast<vec4<u32>>(xAt(start, k4, K4));
  // @else
  let all = vec4<u32>(0x7fffffffu);
  return vec4<u32>(rounded(xAt(start, k4, K4), all), rounded(xAt(start, k4 + 1u, K4), all));
  // @end
}

fn unitOfW(k: u32, K: u32) -> vec4<u32> {
  let row = min(k, K - 1u);
  // @if F32
  let unit = bitcast<vec4<u32>>(weight(places[0].x + row * places[0].y));
  // @else
  // @if F16
  let unit = vec4<u32>(w[places[0].x + row * places[0].y], w[places[1].x + row * places[1].y]);
  // @else
  let first = rounded(weight(places[0].x + row * places[0].y), used[0]);
  let unit = vec4<u32>(first, rounded(weight(places[1].x + row * places[1].y), used[1]));
  // @end
  // @end
  return select(vec4<u32>(), unit, k < K);
}

// The thread's units of the tiles from k on.
fn fetch(row0: u32, M: u32, thread: u32, k: u32, K: u32) {
  // @unroll
  for (var i = 0u; i < X_UNITS; i++) {
    let row = min(row0 + thread / X_LINE + i * (THREADS / X_LINE), M - 1u);
    nextX[i] = unitOfX(row * (K / 4u), k / 4u + thread % X_LINE * (UNIT / 4u), K / 4u);
  }
  // @unroll
  for (var i = 0u; i < W_UNITS; i++) {
    nextW[i] = unitOfW(k + thread / W_LINE + i * (THREADS / W_LINE), K);
  }
}

// The tile of y by plain f32.
fn plainly(M: u32, row0: u32, column0: u32, columns: u32, thread: u32) {
  let K4 = dims[0] / 4u;
  for (var i = thread; i < HEIGHT * STORED; i += THREADS) {
    let row = row0 + i / STORED;
    let column = column0 + i % STORED;
    if (row < M && column < columns) {
      var sums = array<vec4<f32>, HALVES>(); // said, as compilers forget to zero what a loop declares
      for (var k4 = 0u; k4 < K4; k4++) {
        let v = x[row * K4 + k4];
        for (var h = 0u; h < HALVES; h++) {
          let place = columnOf(h * columns + column);
          sums[h] += weights(place.x + 4u * k4 * place.y, place.y) * v;
        }
      }
      // @if GATED
      storeGated(targetOf(M, column), row, sums[0], sums[1]);
      // @else
      store(targetOf(M, column), row, sums[0]);
      // @end
    }
  }
}

// Stores row `r` of the fragments of the subgroups `first` to `end`, which lie in the tile.
fn finish(M: u32, row0: u32, column0: u32, columns: u32, r: u32, first: u32, end: u32, thread: u32) {
  for (var i = thread; i < DOWN * SIDE_M * STORED; i += THREADS) {
    let line = i / STORED;
    let subgroup = line / SIDE_M * ACROSS + i % STORED / PART;
    let row = row0 + (line / SIDE_M * ROWS + r) * SIDE_M + line % SIDE_M;
    let column = column0 + i % STORED;
    if (subgroup >= first && subgroup < end && row < M && column < columns) {
      let at = line * Y_STEP + i % STORED / PART * (SPAN / 4u) + i % STORED % PART;
      // @if GATED
      storeGated(targetOf(M, column), row, bitcast<vec4<f32>>(tile[at]), bitcast<vec4<f32>>(tile[at + PART]));
      // @else
      store(targetOf(M, column), row, bitcast<vec4<f32>>(tile[at]));
      // @end
    }
  }
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroups: u32,
) {
  let K = dims[0];
  let columns = dims[2] / HALVES; // of four
  let M = arrayLength(&x) / (K / 4u);
  let row0 = group.y * HEIGHT;
  let column0 = group.x * STORED;
  for (var i = 0u; i < UNIT / 4u; i++) {
    let q = thread % W_LINE * (UNIT / 4u) + i;
    let within = q % (SPAN / 4u);
    let column = min(column0 + q / (SPAN / 4u) * PART + within % PART, columns - 1u);
    places[i] = columnOf(column + within / PART * columns);
    // @if !F32
    let n = vec4<u32>(0u, 1u, 2u, 3u) + 4u * (column + within / PART * columns);
    used[i] = select(vec4<u32>(), vec4<u32>(0x7fffffffu), n < vec4<u32>(dims[1]));
    // @end
  }

  for (var first = 0u; first < SUBGROUPS; first += subgroups) { // once, unless a device makes larger subgroups
    let own = min(first + subgroup, SUBGROUPS - 1u);
    let xFrom = own / ACROSS * ROWS * SIDE_M * X_STEP;
    let wFrom = W_FROM + own % ACROSS * (SPAN / UNIT);
    var sums: array<array<subgroup_matrix_result<f32, SIDE_N, SIDE_M>, COLUMNS>, ROWS>;
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      // @unroll
      for (var c = 0u; c < COLUMNS; c++) {
        sums[r][c] = subgroup_matrix_result<f32, SIDE_N, SIDE_M>(0.0);
      }
    }
    fetch(row0, M, thread, 0u, K);
    for (var k = 0u; k < K; k += DEPTH) {
      workgroupBarrier();
      // @unroll
      for (var i = 0u; i < X_UNITS; i++) {
        tile[(thread / X_LINE + i * (THREADS / X_LINE)) * X_STEP + thread % X_LINE] = nextX[i];
      }
      // @unroll
      for (var i = 0u; i < W_UNITS; i++) {
        tile[W_FROM + (thread / W_LINE + i * (THREADS / W_LINE)) * W_STEP + thread % W_LINE] = nextW[i];
      }
      workgroupBarrier();
      if (k + DEPTH < K) {
        fetch(row0, M, thread, k + DEPTH, K); // while these are multiplied
      }
      for (var d = 0u; d < DEPTH; d += SIDE_K) {
        var right: array<subgroup_matrix_right<number, SIDE_N, SIDE_K>, COLUMNS>;
        // @unroll
        for (var c = 0u; c < COLUMNS; c++) {
          right[c] = subgroupMatrixLoad<subgroup_matrix_right<number, SIDE_N, SIDE_K>, row_major>(
            &tile, wFrom + d * W_STEP + c * (SIDE_N / UNIT), W_STEP);
        }
        // @unroll
        for (var r = 0u; r < ROWS; r++) {
          let left = subgroupMatrixLoad<subgroup_matrix_left<number, SIDE_K, SIDE_M>, row_major>(
            &tile, xFrom + r * SIDE_M * X_STEP + d / UNIT, X_STEP);
          // @unroll
          for (var c = 0u; c < COLUMNS; c++) {
            sums[r][c] = subgroupMatrixMultiplyAccumulate(left, right[c], sums[r][c]);
          }
        }
      }
    }
    // @if !F32
    if (any(largest >= vec4<u32>(BEYOND))) {
      atomicStore(&redo, 1u);
    }
    if (workgroupUniformLoad(&redo) == 1u) {
      plainly(M, row0, column0, columns, thread);
      return;
    }
    // @end
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      workgroupBarrier();
      if (first + subgroup < SUBGROUPS) {
        // @unroll
        for (var c = 0u; c < COLUMNS; c++) {
          let at = own / ACROSS * SIDE_M * Y_STEP + own % ACROSS * (SPAN / 4u) + c * (SIDE_N / 4u);
          subgroupMatrixStore<row_major>(&tile, at, sums[r][c], Y_STEP);
        }
      }
      workgroupBarrier();
      finish(M, row0, column0, columns, r, first, first + subgroups, thread);
    }
  }
}
