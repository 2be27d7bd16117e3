// kv_codes: quantized keys and values in `words`, which the shader binds; it declares DH, HKV, BITS and G.
// words    [elements, length of this header, DH, HKV, G, BITS, greatest code, how keys + 4 * how values are grouped, then of
//          each sequence its first element and S], codes of the keys and of the values, scales of the keys and of the
//          values. Codes lie in the flat order [Hkv, S, DH] of each sequence.
// scales   of each group scale and offset, x = code * scale + offset: 2 f32 (WIDE), or 2 f16 in a u32
// @if WIDE
const PER_GROUP: u32 = 2u;
// @else
const PER_GROUP: u32 = 1u;
// @end

struct Span {
  first: u32, // element
  length: u32, // S
  n: u32, // elements
}

fn spanOf(b: u32) -> Span {
  let length = words[9u + 2u * b];
  return Span(words[8u + 2u * b], length, HKV * length * DH);
}

// The sequence that an element is of.
fn sequenceOfElement(at: u32, sequences: u32) -> u32 {
  var b = 0u;
  for (var i = 1u; i < sequences; i++) {
    b = select(b, i, words[8u + 2u * i] <= at);
  }
  return b;
}

// Where the codes (part 0 of keys, 1 of values) and the scales begin.
fn codesFrom(part: u32) -> u32 {
  return words[1] + part * (words[0] / (32u / BITS));
}

fn scalesFrom(part: u32) -> u32 {
  return codesFrom(2u) + part * (words[0] / G) * PER_GROUP;
}

// Where a sequence's keys (part 0) or values (1) lie in `words`: its first code and its first scale.
struct Part {
  codes: u32,
  scales: u32,
}

fn partOf(part: u32, span: Span) -> Part {
  return Part(codesFrom(part) + span.first / (32u / BITS), scalesFrom(part) + span.first / G * PER_GROUP);
}

fn pairAt(at: u32) -> vec2<f32> {
  // @if WIDE
  return vec2<f32>(bitcast<f32>(words[at]), bitcast<f32>(words[at + 1u]));
  // @else
  return unpack2x16float(words[at]);
  // @end
}

// Elements `at` to `at + 3` of a sequence of n; at divides by 4.
fn fourOf(part: Part, mode: u32, n: u32, at: u32) -> vec4<f32> {
  let mask = (1u << BITS) - 1u;
  let bits = words[part.codes + at / (32u / BITS)] >> (at * BITS % 32u);
  let codes = vec4<f32>((vec4<u32>(bits) >> (vec4<u32>(0u, 1u, 2u, 3u) * BITS)) & vec4<u32>(mask));
  if (mode == CONSECUTIVE) {
    let pair = pairAt(part.scales + at / G * PER_GROUP);
    return codes * pair.x + pair.y;
  }
  var scales = vec4<f32>();
  var offsets = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    let pair = pairAt(part.scales + groupOf(mode, at + i, n) * PER_GROUP);
    scales[i] = pair.x;
    offsets[i] = pair.y;
  }
  return codes * scales + offsets;
}
