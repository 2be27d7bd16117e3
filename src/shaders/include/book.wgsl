// book: the 16 entries of a code book, looked up by code. SUBGROUPS: eight lanes hold them, which a shuffle reads faster.
// @if SUBGROUPS
var<private> book: vec2<f32>; // entries j and j + 8 in lane j of 8
// @else
var<workgroup> book: array<f32, 16>;
// @end

// Before the first lookup, by all of `threads`, from where the words of a matrix begin.
fn openBook(thread: u32, threads: u32, lane: u32) {
  // @if SUBGROUPS
  book = vec2<f32>(bitcast<f32>(groups[lane % 8u]), bitcast<f32>(groups[8u + lane % 8u]));
  // @else
  for (var i = thread; i < 16u; i += threads) {
    book[i] = bitcast<f32>(groups[i]);
  }
  workgroupBarrier();
  // @end
}

// The entry that the lowest 4 bits of `code` name; `first` is the first of the eight lanes.
fn entry(code: u32, first: u32) -> f32 {
  // @if SUBGROUPS
  let at = first | (code & 7u);
  return select(subgroupShuffle(book.x, at), subgroupShuffle(book.y, at), (code & 8u) != 0u);
  // @else
  return book[code & 15u];
  // @end
}

fn entries(code: vec4<u32>, first: u32) -> vec4<f32> {
  return vec4<f32>(entry(code.x, first), entry(code.y, first), entry(code.z, first), entry(code.w, first));
}
