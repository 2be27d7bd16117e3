// grid: a launch of n workgroups arrives as x * y >= n of them; this is the flat index, which may be past n.
fn flatGroup(group: vec3<u32>, groups: vec3<u32>) -> u32 {
  return group.y * groups.x + group.x;
}

// rows: a row of `width` elements is cut into blocks of 256, one a workgroup; block.row may be past the last row.
struct RowBlock {
  row: u32,
  start: u32,
  end: u32,
}

fn rowBlock(index: u32, width: u32) -> RowBlock {
  let blocks = (width + 255u) / 256u;
  let start = index % blocks * 256u;
  return RowBlock(index / blocks, start, min(start + 256u, width));
}
