// gather_rows: y[m,i] = x[index[m],i], and 0 where index[m] is no row of x
//
// x        [N, D] words of 32 bits (WORDS), or 16-bit floats two in a word, which come out as f32 (F16, BF16)
// index    [M] u32      y [M, D] words
// grid     [M * blocks of D]: a workgroup 256 elements of one row, each a vec4 where D divides by 4 (BY_4)
// traffic  read M rows, write y: bandwidth-bound
const WG: u32 = 64; // @const 64 8
// @one-of WORDS F16 BF16
// @optional BY_4
// @include "elem.wgsl"
// @include "floats.wgsl"
// @include "grid.wgsl"

// @if WORDS
const PER: u32 = 1u; // elements of y in one of x
@group(0) @binding(0) var<storage, read> x: array<held>;
fn element(at: u32) -> held { return x[at]; }
// @else
// @if BY_4
const PER: u32 = 1u;
// @if INT64
@group(0) @binding(0) var<storage, read> x: array<u64>;
// @else
@group(0) @binding(0) var<storage, read> x: array<vec2<u32>>;
// @end
fn element(at: u32) -> held {
  // @if INT64
  let words = wordsOf(x[at]);
  // @else
  let words = x[at];
  // @end
  return hold(vec4<f32>(unpack(words.x), unpack(words.y)));
}
// @else
const PER: u32 = 2u;
@group(0) @binding(0) var<storage, read> x: array<u32>;
fn element(at: u32) -> held { return hold(unpack(x[at >> 1u])[at & 1u]); }
// @end
// @end
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<held>;

fn unpack(pair: u32) -> vec2<f32> {
  // @if BF16
  return unpackBf16(pair);
  // @else
  return unpack2x16float(pair);
  // @end
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let M = arrayLength(&index);
  let D = arrayLength(&y) / M;
  let N = PER * arrayLength(&x) / D;
  let block = rowBlock(flatGroup(group, groups), D);
  if (block.row >= M) {
    return;
  }
  let row = index[block.row];
  if (row >= N) {
    for (var i = block.start + thread; i < block.end; i += WG) {
      y[block.row * D + i] = held();
    }
    return;
  }
  for (var i = block.start + thread; i < block.end; i += WG) {
    y[block.row * D + i] = element(row * D + i);
  }
}
