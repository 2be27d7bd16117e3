// strips: columns of a matrix that lie in strips, each [rows, its columns], one after the other; the last may have less
//
// Where a column begins, of `columns` in strips of `strip`, and how far it is from one row of it to the next.
fn inStrips(column: u32, strip: u32, columns: u32, rows: u32) -> vec2<u32> {
  let within = column % strip;
  let before = column - within;
  return vec2<u32>(before * rows + within, min(strip, columns - before));
}
