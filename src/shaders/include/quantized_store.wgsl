// quantized_store: what stands behind a product: bias, activation or gate, residual; see quantized.wgsl
override PARTS: u32 = 1u;
// @if GATED
// @if !SUBGROUPS
var<workgroup> seconds: array<vec4<f32>, ROWS * LANES>;
// @end
// @end
// @include "activated.wgsl"

// Four sums with the bias of their columns, from column n of this matrix on.
fn biased(sum: vec4<f32>, n: u32) -> vec4<f32> {
  let bias = dims[7];
  var value = sum;
  if (bias > 0u) {
    for (var c = 0u; c < min(4u, dims[1] - n); c++) {
      value[c] += bitcast<f32>(groups[bias + n + c]);
    }
  }
  return value;
}

// @if GATED
fn storeGated(row: u32, column: u32, gate: vec4<f32>, up: vec4<f32>) {
  let half = dims[1] / 2u;
  let value = activated4(biased(gate, 4u * column)) * biased(up, half + 4u * column);
  for (var c = 0u; c < 4u; c++) {
    let at = row * half + 4u * column + c;
    // @if RESIDUAL
    y[at] = value[c] + residual[at];
    // @else
    y[at] = value[c];
    // @end
  }
}
// @else
fn store(rows: u32, row: u32, column: u32, sum: vec4<f32>) {
  let value = activated4(biased(sum, 4u * column));
  let width = dims[3] / PARTS;
  for (var c = 0u; c < min(4u, dims[1] - 4u * column); c++) {
    let n = dims[6] + 4u * column + c;
    let at = (n / width * rows + row) * width + n % width;
    // @if RESIDUAL
    y[at] = value[c] + residual[at];
    // @else
    y[at] = value[c];
    // @end
  }
}
// @end
