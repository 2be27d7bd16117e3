// gather_rows: y[m,i] = x[index[m],i], and 0 where index[m] is no row of x
//
// x        [N, D] words of 32 bits (WORDS), or 16-bit floats two in a word, which come out as f32 (F16, BF16)
// index    [M] u32      y [M, D] words
// grid     [M * blocks of D]: a thread up to 4 elements of one row
// traffic  read M rows, write y: bandwidth-bound
// @one-of WORDS F16 BF16
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

fn element(at: u32) -> u32 {
  // @if WORDS
  return x[at];
  // @end
  // @if F16
  return bitcast<u32>(unpack2x16float(x[at >> 1u])[at & 1u]);
  // @end
  // @if BF16
  return bitcast<u32>(unpackBf16(x[at >> 1u])[at & 1u]);
  // @end
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let M = arrayLength(&index);
  let D = arrayLength(&y) / M;
  // @if WORDS
  let N = arrayLength(&x) / D;
  // @else
  let N = 2u * arrayLength(&x) / D;
  // @end
  let block = rowBlock(flatGroup(group, groups), D);
  if (block.row >= M) {
    return;
  }
  let row = index[block.row];
  for (var i = block.start + thread; i < block.end; i += 64u) {
    var value = 0u;
    if (row < N) {
      value = element(row * D + i);
    }
    y[block.row * D + i] = value;
  }
}
