// quantized_finish: at the end of main, what is done with `sums`, ROWS x 4 of a thread: with GATED the two halves of the
// columns meet, in lanes that lie 4 apart
  // @if GATED
  var ups: array<vec4<f32>, ROWS>;
  // @if SUBGROUPS
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    ups[r] = subgroupShuffle(sums[r], lane ^ 4u);
  }
  // @else
  if (slice == 0u) {
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      seconds[r * LANES + thread.x] = sums[r];
    }
  }
  workgroupBarrier();
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    ups[r] = seconds[r * LANES + (thread.x ^ 4u)];
  }
  // @end
  if (isGate && own < columns && slice == 0u) {
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      if (row0 + r < M) {
        storeGated(row0 + r, own, sums[r], ups[r]);
      }
    }
  }
  // @else
  if (own < columns && slice == 0u) {
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      if (row0 + r < M) {
        store(M, row0 + r, own, sums[r]);
      }
    }
  }
  // @end
