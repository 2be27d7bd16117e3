// word place: where a column of a matrix of codes begins, and how far it is from one of its words to the next, as codes.wgsl
// has it, from the params of pack_codes.wgsl
// @include "strips.wgsl"

fn wordPlace(column: u32) -> vec2<u32> {
  return inStrips(column, params[7], params[2], (params[1] + 31u) / 32u * (params[4] + params[5]));
}
