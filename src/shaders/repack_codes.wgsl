// repack_codes: codes of a checkpoint, packed as the kernels read them
//
// source   u32 words of the checkpoint's tensor. NIBBLES: row-major [N, K], the first of two in the high half of a byte;
//          BYTES: row-major [N, K]; STREAMS (GPTQ): [K * bits / 32, N], each column a stream of bits; AWQ: [K, N / 8],
//          whose nibble i is column 0, 2, 4, 6, 1, 3, 5, 7 of its eight
// w        [K/32, bits, columns] u32, see quantized.wgsl
// params   as pack_codes.wgsl has them; from 8 on (bits); (PERMUTED) then which row of the source each row of w is
// grid     [N * K/32 / 64]: a thread 32 codes
// traffic  read and write the codes once: bandwidth-bound
// @one-of NIBBLES BYTES STREAMS AWQ
// @optional PERMUTED
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read> params: array<u32>;
@group(0) @binding(2) var<storage, read_write> w: array<u32>;
// @include "pack_codes.wgsl"

fn codeAt(n: u32, row: u32) -> u32 {
  // @if PERMUTED
  let k = params[9u + row];
  // @else
  let k = row;
  // @end
  let N = params[0];
  let K = params[1];
  // @if NIBBLES
  let at = n * K + k;
  return (source[at / 8u] >> (8u * (at / 2u % 4u) + 4u * (1u - at % 2u))) & 15u;
  // @end
  // @if BYTES
  let at = n * K + k;
  return (source[at / 4u] >> (8u * (at % 4u))) & 255u;
  // @end
  // @if STREAMS
  let bits = params[8];
  let bit = k * bits;
  let shift = bit % 32u;
  var code = source[bit / 32u * N + n] >> shift;
  if (shift + bits > 32u) {
    code |= source[(bit / 32u + 1u) * N + n] << (32u - shift);
  }
  return code & ((1u << bits) - 1u);
  // @end
  // @if AWQ
  let nibble = (n % 8u) / 2u + 4u * (n % 2u);
  return (source[k * (N / 8u) + n / 8u] >> (4u * nibble)) & 15u;
  // @end
}
