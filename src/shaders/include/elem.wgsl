// elem: what a kernel takes in one step: a number, or a vec4 of them where rows divide by 4 (BY_4);
// cell: one as it lies in a buffer; held: one that is only moved, whatever its bits mean.
// @if BY_4
// @include "quads.wgsl"
alias elem = vec4<f32>;
alias cell = quad;
// @if INT64
alias held = quad;
// @else
alias held = vec4<u32>;
// @end
const LANES: u32 = 4u; // numbers in one
alias word = vec4<u32>; // the bits of one

fn taken(v: cell) -> elem {
  return fromQuad(v);
}

fn put(v: elem) -> cell {
  return toQuad(v);
}

fn hold(v: elem) -> held {
  // @if INT64
  return toQuad(v);
  // @else
  return bitcast<held>(v);
  // @end
}

fn total(v: elem) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn greatest(v: elem) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn greatestWord(v: word) -> u32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}
// @else
alias elem = f32;
alias cell = f32;
alias held = u32;
const LANES: u32 = 1u;
alias word = u32;

fn taken(v: cell) -> elem {
  return v;
}

fn put(v: elem) -> cell {
  return v;
}

fn hold(v: elem) -> held {
  return bitcast<held>(v);
}

fn total(v: elem) -> f32 {
  return v;
}

fn greatest(v: elem) -> f32 {
  return v;
}

fn greatestWord(v: word) -> u32 {
  return v;
}
// @end
