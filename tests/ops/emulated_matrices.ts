/**
 * A shader with subgroup matrices, rewritten so that each thread holds whole matrices of 8 x 8 and multiplies them itself:
 * for tests of everything around the matrices where no device has any, f32 ones too, which only Apple's have.
 */

const EMULATION = `
alias matrix = array<f32, 64>;

fn all() -> u32 { return min(dims[0] + 64u, 64u); } // 64: unrolled loops compile for seconds

fn loaded(at: u32, step: u32) -> matrix {
  var m: matrix;
  for (var i = 0u; i < all(); i++) {
    // @if F32
    m[i] = bitcast<f32>(tile[at + i / 8u * step + i % 8u / 4u][i % 4u]);
    // @else
    m[i] = unpack2x16float(tile[at + i / 8u * step][i % 8u / 2u])[i % 2u];
    // @end
  }
  return m;
}

fn multiplied(a: matrix, b: matrix, c: matrix) -> matrix {
  var left = a;
  var right = b;
  var sum = c;
  for (var i = 0u; i < all() * 8u; i++) {
    sum[i / 8u] += left[i / 64u * 8u + i % 8u] * right[i % 8u * 8u + i / 8u % 8u];
  }
  return sum;
}

fn stored(at: u32, m: matrix, step: u32) {
  var numbers = m;
  for (var i = 0u; i < all(); i++) {
    tile[at + i / 8u * step + i % 8u / 4u][i % 4u] = bitcast<u32>(numbers[i]);
  }
}
`;

/** `wgsl` without subgroup matrices; its sides must be 8. */
export function emulated(wgsl: string): string {
  return wgsl
    .replace("enable chromium_experimental_subgroup_matrix;", "")
    .replace("diagnostic(off, chromium.subgroup_matrix_uniformity);", "")
    .replace(/subgroupMatrixLoad<[^(]*\(\s*&tile, /g, "loaded(")
    .replaceAll("subgroupMatrixMultiplyAccumulate(", "multiplied(")
    .replaceAll("subgroupMatrixStore<row_major>(&tile, ", "stored(")
    .replace(/subgroup_matrix_result<[^>]*>\(0\.0\)/g, "matrix()")
    .replace(/subgroup_matrix_\w+<[^>]*>/g, "matrix") + EMULATION;
}
