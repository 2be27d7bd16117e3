// codes: where the codes of a matrix lie, whose shader declares `w`, `dims` and BITS. w is [K/32 * BITS, N4] vec4<u32> in strips of
// columns, each [K/32 * BITS, its columns], one after the other: a CPU reads its memory fastest in order
// @include "quads.wgsl"
// @include "strips.wgsl"
override STRIP: u32 = 0xffffffffu; // columns by 4 of a strip, the last may have less; by itself: all

// What lies in w.
fn codeWords(at: u32) -> vec4<u32> {
  return fromWordQuad(w[at]);
}

// Where a column by 4 begins, and how far it is from one row of it to the next.
fn placeOf(column: u32) -> vec2<u32> {
  return inStrips(column, STRIP, dims[2], (dims[0] + 31u) / 32u * BITS);
}
