// row columns: in main, which of the matrix's columns by 4 a thread of eight has, and where their codes lie; with GATED threads
// 0 to 3 have those of the first half, 4 to 7 those of the second
  // @if GATED
  let columns = N4 / 2u; // of each half
  let isGate = thread.x < 4u;
  let wide = 4u;
  let half = select(columns, 0u, isGate);
  // @else
  let columns = N4;
  let wide = 8u;
  let half = 0u;
  // @end
  var column: array<u32, TILES>;
  var place: array<vec2<u32>, TILES>;
  // @unroll
  for (var tile = 0u; tile < TILES; tile++) {
    // lanes past the end repeat the last column and do not store
    column[tile] = min((group.x * TILES + tile) * wide + thread.x % wide, columns - 1u) + half;
    place[tile] = placeOf(column[tile]);
  }
