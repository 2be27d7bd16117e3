// kv_quads: the bindings k and v, read four elements of a head at a time; elements past the head are zero.
// The shader declares DH and DV; BY_4: both, and all strides, divide by 4. FRESH: they are written, too (F32 and F16).
// @include "quads.wgsl"
// @if FRESH
// @if F32
@group(0) @binding(1) var<storage, read_write> k: array<quad>;
@group(0) @binding(2) var<storage, read_write> v: array<quad>;
// @else
@group(0) @binding(1) var<storage, read_write> k: array<halves>;
@group(0) @binding(2) var<storage, read_write> v: array<halves>;
// @end
// @else
// @if F32
// @if BY_4
@group(0) @binding(1) var<storage, read> k: array<quad>;
@group(0) @binding(2) var<storage, read> v: array<quad>;
// @else
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
// @end
// @else
// @if BY_4
@group(0) @binding(1) var<storage, read> k: array<halves>;
@group(0) @binding(2) var<storage, read> v: array<halves>;
// @else
@group(0) @binding(1) var<storage, read> k: array<u32>;
@group(0) @binding(2) var<storage, read> v: array<u32>;
// @end
// @end
// @end

// @if F32
// @if FRESH
fn kept(four: vec4<f32>) -> quad {
  return toQuad(four);
}
// @end
// @else
// @if INT64
alias halves = u64; // four numbers of 16 bits

fn fromHalves(four: halves) -> vec4<f32> {
  let words = wordsOf(four);
  return vec4<f32>(unpackPair(words.x), unpackPair(words.y));
}
// @else
alias halves = vec2<u32>; // four numbers of 16 bits

fn fromHalves(four: halves) -> vec4<f32> {
  return vec4<f32>(unpackPair(four.x), unpackPair(four.y));
}
// @end

// @if FRESH
fn kept(four: vec4<f32>) -> halves {
  let words = vec2<u32>(packF16Saturated(four.xy), packF16Saturated(four.zw));
  // @if INT64
  return pairOf(words);
  // @else
  return words;
  // @end
}
// @end

fn unpackPair(word: u32) -> vec2<f32> {
  // @if F16
  return unpack2x16float(word);
  // @end
  // @if BF16
  return unpackBf16(word);
  // @end
}
// @end

fn keyQuad(at: u32, n: u32) -> vec4<f32> {
  // @if BY_4
  // @if F32
  return fromQuad(k[at / 4u + n]);
  // @else
  return fromHalves(k[at / 4u + n]);
  // @end
  // @else
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    let e = at + 4u * n + i;
    if (4u * n + i < DH) {
      // @if F32
      four[i] = k[e];
      // @else
      four[i] = unpackPair(k[e / 2u])[e & 1u];
      // @end
    }
  }
  return four;
  // @end
}

fn valueQuad(at: u32, n: u32) -> vec4<f32> {
  // @if BY_4
  // @if F32
  return fromQuad(v[at / 4u + n]);
  // @else
  return fromHalves(v[at / 4u + n]);
  // @end
  // @else
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    let e = at + 4u * n + i;
    if (4u * n + i < DV) {
      // @if F32
      four[i] = v[e];
      // @else
      four[i] = unpackPair(v[e / 2u])[e & 1u];
      // @end
    }
  }
  return four;
  // @end
}
