// lane sum: over the lanes that load a span of SPAN numbers together, by 4
fn laneSum(v: f32, lane: u32) -> f32 {
  let pairs = v + subgroupShuffle(v, lane ^ 1u);
  let fours = pairs + subgroupShuffle(pairs, lane ^ 2u);
  if (SPAN == 32u) {
    return fours + subgroupShuffle(fours, lane ^ 4u);
  }
  return fours;
}
