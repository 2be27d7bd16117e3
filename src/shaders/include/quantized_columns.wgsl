// quantized_columns: in main, which of the matrix's columns by 4 a thread has, and how many rows there are
  // threads past the end repeat the last column and do not store
  // @if GATED
  let columns = N4 / 2u; // of each half
  let M = 2u * arrayLength(&y) / dims[3];
  let own = (group.x * LANES + thread.x) / 8u * 4u + thread.x % 4u;
  let isGate = thread.x % 8u < 4u;
  let column = min(own, columns - 1u) + select(columns, 0u, isGate);
  // @else
  let columns = N4;
  let M = arrayLength(&y) / dims[3];
  let own = group.x * LANES + thread.x;
  let column = min(own, columns - 1u);
  // @end
