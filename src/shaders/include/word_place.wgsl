// word place: where a column of a matrix of codes begins, and how far it is from one of its words to the next, as codes.wgsl
// has it, from the params of pack_codes.wgsl
fn wordPlace(column: u32) -> vec2<u32> {
  let strip = params[7];
  let begin = column / strip * strip;
  let rows = (params[1] + 31u) / 32u * (params[4] + params[5]);
  return vec2<u32>(begin * rows + column - begin, min(strip, params[2] - begin));
}
