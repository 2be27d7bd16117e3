// matmul_row: matmul of one row by 16-bit weights for CPUs, where the loads of w are what counts: one of 16 bytes a lane costs
// little more than one of 8. At every fourth step each of eight lanes of a subgroup loads a number of x, which they hand round:
// masked, at the others, a load costs next to nothing. K divides by 4, N by 8, and a subgroup has at least 8 lanes.
//
// x        [1, K] f32       w  [K, N]       y  [1, N] f32       norm  [K] f32       as in matmul and include/linear.wgsl
// grid     [N / 8 / LANES]: a thread holds 8 sums; with GATED lanes 0 to 3 of eight those of the first half of the columns,
//          the others those of the second, which they hand over at the end
// measured on 2 EPYC cores, a core, f16: 6.2 GB/s, beside other work 3.9; weights times 2^112 in the loop 6.0 and 3.7, and then two
//          numbers of x at every step by two lanes 6.1 and 3.6; 16 columns a lane in 32 bytes 5.2, w in words of 32 bits 4.2,
//          the driver's unpack2x16float 4.3, steps of 4 along K 5.7; with words of 32 bits steps of 1 or of 4 3.8, w not in
//          strips 3.6
// @header
// @one-of SUBGROUPS
// @one-of WIDE
// @one-of F16 BF16
// @optional BIAS RESIDUAL NORM GATED
// @one-of N_BY_4
// @include "linear.wgsl"
const LANES: u32 = 32; // @const
override EPS: f32 = 1e-6;

@group(0) @binding(0) var<storage, read> x: array<f32>;
// @if NORM
@group(0) @binding(6) var<storage, read> norm: array<f32>;
// @end

// @if F16
// Bit 15 or 31 is set where one of the weights of a word is infinite or NaN.
fn oddWords(words: vec4<u32>) -> u32 {
  let over = (words & vec4<u32>(0x7fff7fffu)) + vec4<u32>(0x04000400u);
  return ((over.x | over.y) | (over.z | over.w)) & 0x80008000u;
}

// What unpack gives of finite numbers, times 2^-112, with integers alone: exponent and digits go where f32 has them, whose bias
// differs by so much. HALF of it is made up for in x, the other HALF in the sums.
const HALF: f32 = 0x1p56;

fn numbers(words: vec2<u32>) -> vec4<f32> {
  let low = bitcast<vec2<u32>>(bitcast<vec2<i32>>(words << vec2<u32>(16u)) >> vec2<u32>(3u)) & vec2<u32>(0x8fffe000u);
  let high = bitcast<vec2<u32>>(bitcast<vec2<i32>>(words) >> vec2<u32>(3u)) & vec2<u32>(0x8fffe000u);
  return bitcast<vec4<f32>>(vec4<u32>(low.x, high.x, low.y, high.y));
}
// @else
fn numbers(words: vec2<u32>) -> vec4<f32> {
  return unpack(words);
}
// @end

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let K = dims[0];
  // lanes past the end repeat the last columns and do not store
  // @if GATED
  let columns = dims[2] / 4u; // eights of each half
  let own = (group.x * LANES + thread) / 8u * 4u + lane % 4u;
  let isGate = lane % 8u < 4u;
  let place = columnOf(2u * (min(own, columns - 1u) + select(columns, 0u, isGate)));
  // @else
  let columns = dims[2] / 2u;
  let own = group.x * LANES + thread;
  let place = columnOf(2u * min(own, columns - 1u));
  // @end
  let step = place.y / 2u;
  var at = place.x / 2u;
  var first = vec4<f32>();
  var second = vec4<f32>();
  // @if F16
  var odd = 0u; // whether a weight was not finite, or a number of x too great for HALF
  // @end
  // @if NORM
  var squares = 0.0; // of what the lane loads
  // @end

  var v = 0.0; // of the eight numbers of x that the step is among
  for (var k = 0u; k < K; k += 2u) {
    let above = fromWordQuad(w[at]);
    let below = fromWordQuad(w[at + step]);
    at += 2u * step;
    // @if F16
    odd |= oddWords(above) | oddWords(below);
    // @end
    if (k % 8u == 0u) {
      let own = k + lane % 8u;
      v = select(0.0, x[min(own, K - 1u)], own < K);
      // @if NORM
      squares += v * v;
      v *= norm[min(own, K - 1u)];
      // @end
      // @if F16
      odd |= select(0u, 0x8000u, abs(v) > HALF);
      v *= HALF;
      // @end
    }
    let a = subgroupShuffle(v, k % 8u);
    let b = subgroupShuffle(v, k % 8u + 1u);
    first += numbers(above.xy) * a + numbers(below.xy) * b;
    second += numbers(above.zw) * a + numbers(below.zw) * b;
  }
  // @if F16
  first *= HALF;
  second *= HALF;
  odd |= subgroupShuffleXor(odd, 1u);
  odd |= subgroupShuffleXor(odd, 2u);
  odd |= subgroupShuffleXor(odd, 4u);
  if (odd >= 0x8000u) {
    at = place.x / 2u;
    first = vec4<f32>();
    second = vec4<f32>();
    for (var k = 0u; k < K; k++) {
      let words = fromWordQuad(w[at]);
      at += step;
      // @if NORM
      let v = x[k] * norm[k];
      // @else
      let v = x[k];
      // @end
      first += unpack(words.xy) * v;
      second += unpack(words.zw) * v;
    }
  }
  // @end

  // @if NORM
  squares += subgroupShuffleXor(squares, 1u); // of subgroupAdd a driver makes a loop over the lanes
  squares += subgroupShuffleXor(squares, 2u);
  squares += subgroupShuffleXor(squares, 4u);
  let scale = inverseSqrt(squares / f32(K) + EPS);
  first *= scale;
  second *= scale;
  // @end
  // @if GATED
  let up = subgroupShuffleXor(first, 4u);
  let nextUp = subgroupShuffleXor(second, 4u);
  if (own < columns && isGate) {
    storeGated(targetOf(1u, 2u * own), 0u, first, up);
    storeGated(targetOf(1u, 2u * own + 1u), 0u, second, nextUp);
  }
  // @else
  if (own < columns) {
    store(targetOf(1u, 2u * own), 0u, first);
    store(targetOf(1u, 2u * own + 1u), 0u, second);
  }
  // @end
}
