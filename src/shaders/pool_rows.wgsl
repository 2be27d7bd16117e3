// pool_rows: y[b,i] = the mean (MEAN), the first (CLS) or the last (LAST) of x[cuSeqlens[b] .. cuSeqlens[b+1], i]
//
// x        [T, D] f32: sequences end to end      cuSeqlens [B + 1] u32: where each begins      y [B, D] f32
// grid     [B * blocks of D]: a thread up to 4 columns of one sequence; an empty sequence gives zeros
// traffic  MEAN: read x, else B rows of it: bandwidth-bound
// @one-of MEAN CLS LAST
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let B = arrayLength(&cuSeqlens) - 1u;
  let D = arrayLength(&y) / B;
  let block = rowBlock(flatGroup(group, groups), D);
  if (block.row >= B) {
    return;
  }
  let start = cuSeqlens[block.row];
  let end = cuSeqlens[block.row + 1u];
  for (var i = block.start + thread; i < block.end; i += 64u) {
    var value = 0.0;
    if (start < end) {
      // @if MEAN
      for (var t = start; t < end; t++) {
        value += x[t * D + i];
      }
      value /= f32(end - start);
      // @end
      // @if CLS
      value = x[start * D + i];
      // @end
      // @if LAST
      value = x[(end - 1u) * D + i];
      // @end
    }
    y[block.row * D + i] = value;
  }
}
