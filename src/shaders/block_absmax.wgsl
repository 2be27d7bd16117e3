// block_absmax: the largest size in each block of numbers, put where codebook_matmul or int8_matmul want it
//
// x        [rows, K] f32, or 16-bit floats two in a u32: some rows of a matrix
// y        absmax; of block g of row r at (g * stride + r) from `first` on, or (FLAT) of block b of x at (b) from there on
// params   = (rows, K, block, stride, first)
// grid     [blocks / 64]: a thread a block, or (WIDE) [blocks]: a workgroup a block; X_OCTETS: K and blocks are
//          multiples of 32
// traffic  read x once: bandwidth-bound
const WG: u32 = 64u;
const HUGE: f32 = 3.4e38;
// @one-of X_F32 X_F16 X_BF16
// @optional FLAT WIDE X_OCTETS
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "float_at.wgsl"
// @if WIDE
// @include "reduce.wgsl"
// @end
// @if X_F32
const PER_VECTOR: u32 = 4u;
// @else
const PER_VECTOR: u32 = 8u;
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
  let threads = WG;
  let rank = thread;
  // @else
  let block = flatGroup(group, groups) * WG + thread;
  let threads = 1u;
  let rank = 0u;
  // @end
  let end = min((block + 1u) * size, count);
  // @if X_OCTETS
  var sizes = vec4<u32>(); // sizes order as their bits do, two of 16 bits in a word
  for (var i = (block * size) / PER_VECTOR + rank; i < end / PER_VECTOR; i += threads) {
    let v = x[i];
    // @if X_F32
    sizes = max(sizes, v & vec4<u32>(0x7fffffffu));
    // @else
    sizes = max(sizes, max(v & vec4<u32>(0x7fff0000u), (v << vec4<u32>(16u)) & vec4<u32>(0x7fff0000u)));
    // @end
  }
  let largest = max(max(sizes.x, sizes.y), max(sizes.z, sizes.w));
  // @if X_F16
  var most = unpack2x16float(largest).y;
  // @else
  var most = bitcast<f32>(largest);
  // @end
  // @else
  var largest = 0u;
  for (var i = block * size + rank; i < end; i += threads) {
    largest = max(largest, bitcast<u32>(floatAt(i)) & 0x7fffffffu);
  }
  var most = bitcast<f32>(largest);
  // @end
  most = select(most, HUGE, (bitcast<u32>(most) & 0x7f800000u) == 0x7f800000u); // NaN may be lost in a maximum of floats
  // @if WIDE
  most = workgroupMax(most, thread);
  if (thread > 0u) {
    return;
  }
  // @end
  if (block * size >= count) {
    return;
  }
  let bits = select(bitcast<u32>(most), 0x7fc00000u, most == HUGE); // and must not be lost in a code
  // @if FLAT
  y[params[4] + block] = bitcast<f32>(bits);
  // @else
  let perRow = (params[1] + size - 1u) / size;
  y[params[4] + block % perRow * params[3] + block / perRow] = bitcast<f32>(bits);
  // @end
}
