// kv_quads: the bindings k and v, read four elements of a head at a time; elements past the head are zero.
// The shader declares DH and DV; BY_4: both, and all strides, divide by 4.
// @if F32
// @if BY_4
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
// @else
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
// @end
// @else
// @if BY_4
@group(0) @binding(1) var<storage, read> k: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> v: array<vec2<u32>>;
// @else
@group(0) @binding(1) var<storage, read> k: array<u32>;
@group(0) @binding(2) var<storage, read> v: array<u32>;
// @end
// @end

// @if F32
// @else
fn unpackPair(word: u32) -> vec2<f32> {
  // @if F16
  return unpack2x16float(word);
  // @end
  // @if BF16
  return unpackBf16(word);
  // @end
}
// @end

fn keyQuad(at: u32, quad: u32) -> vec4<f32> {
  // @if BY_4
  // @if F32
  return k[at / 4u + quad];
  // @else
  let words = k[at / 4u + quad];
  return vec4<f32>(unpackPair(words.x), unpackPair(words.y));
  // @end
  // @else
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    let e = at + 4u * quad + i;
    if (4u * quad + i < DH) {
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

fn valueQuad(at: u32, quad: u32) -> vec4<f32> {
  // @if BY_4
  // @if F32
  return v[at / 4u + quad];
  // @else
  let words = v[at / 4u + quad];
  return vec4<f32>(unpackPair(words.x), unpackPair(words.y));
  // @end
  // @else
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    let e = at + 4u * quad + i;
    if (4u * quad + i < DV) {
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
