// lanes: the greatest number of a subgroup by shuffles. Of subgroupMax a driver on the CPU makes a loop over the lanes, which
// is slower to run and to compile. The shader declares HALVINGS, the logarithm of its lanes.
fn greatestOfLanes(x: f32) -> f32 {
  var most = x;
  // @unroll
  for (var i = 0u; i < HALVINGS; i++) {
    most = max(most, subgroupShuffleXor(most, 1u << i));
  }
  return most;
}
