// block_absmax: the largest size in each block of numbers, put where codebook_matmul or int8_matmul want it
//
// x        [rows, K] f32, or 16-bit floats two in a u32: some rows of a matrix
// y        absmax; of block g of row r at (g * stride + r) from `first` on, or (FLAT) of block b of x at (b) from there on
// params   = (rows, K, block, stride, first)
// grid     [blocks / 64]: a thread a block, or (WIDE) [blocks]: a workgroup a block
// traffic  read x once: bandwidth-bound
const WG: u32 = 64u;
// @one-of X_F32 X_F16 X_BF16
// @optional FLAT WIDE
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "float_at.wgsl"
// @if WIDE
// @include "reduce.wgsl"
// @end
@group(0) @binding(1) var<storage, read> params: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let count = params[0] * params[1];
  let size = params[2];
  // @if WIDE
  let block = flatGroup(group, groups);
  let step = WG;
  let start = block * size + thread;
  // @else
  let block = flatGroup(group, groups) * WG + thread;
  let step = 1u;
  let start = block * size;
  // @end
  var most = 0.0;
  for (var i = start; i < min((block + 1u) * size, count); i += step) {
    most = max(most, abs(floatAt(i)));
  }
  // @if WIDE
  most = workgroupMax(most, thread);
  if (thread > 0u) {
    return;
  }
  // @end
  if (block * size >= count) {
    return;
  }
  // @if FLAT
  y[params[4] + block] = most;
  // @else
  let perRow = (params[1] + size - 1u) / size;
  y[params[4] + block % perRow * params[3] + block / perRow] = most;
  // @end
}
