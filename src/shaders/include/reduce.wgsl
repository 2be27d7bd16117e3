// reduce: sum and maximum over a workgroup of WG threads; every thread gets the result.
// The shader declares WG, a power of two, and calls with its local_invocation_index from uniform control flow.
// With SUBGROUPS a workgroup is 8 lanes of one subgroup, as a CPU is slow at barriers; and they shuffle, since of subgroupAdd
// and subgroupMax a driver on the CPU makes loops over the lanes.
// @if SUBGROUPS
fn workgroupSum(x: f32, i: u32) -> f32 {
  let pairs = x + subgroupShuffleXor(x, 1u);
  let fours = pairs + subgroupShuffleXor(pairs, 2u);
  return fours + subgroupShuffleXor(fours, 4u);
}

fn workgroupMax(x: f32, i: u32) -> f32 {
  let pairs = max(x, subgroupShuffleXor(x, 1u));
  let fours = max(pairs, subgroupShuffleXor(pairs, 2u));
  return max(fours, subgroupShuffleXor(fours, 4u));
}
// @else
var<workgroup> partial: array<f32, WG>;

fn workgroupSum(x: f32, i: u32) -> f32 {
  workgroupBarrier(); // the partials of a reduction before this one have been read
  partial[i] = x;
  workgroupBarrier();
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    if (i < half) {
      partial[i] += partial[i + half];
    }
    workgroupBarrier();
  }
  return partial[0];
}

fn workgroupMax(x: f32, i: u32) -> f32 {
  workgroupBarrier();
  partial[i] = x;
  workgroupBarrier();
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    if (i < half) {
      partial[i] = max(partial[i], partial[i + half]);
    }
    workgroupBarrier();
  }
  return partial[0];
}
// @end
