/** Rows as aligned text: the first column to the left, numbers to the right. */
export function textTable(rows: readonly (readonly string[])[], left: readonly number[] = [0]): string {
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, c) => Math.max(...rows.map((row) => row[c]?.length ?? 0)));
  return rows.map((row) => {
    return row.map((cell, c) => left.includes(c) ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!)).join("  ")
      .trimEnd();
  }).join("\n");
}

/** Rows as a Markdown table; the first row is its head. */
export function markdownTable([head = [], ...rows]: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map((_, c) => c === 0 ? "---" : "---:")), ...rows.map(line)].join("\n");
}

/** Records as CSV, under a line of their keys. */
export function csvTable(records: readonly Readonly<Record<string, unknown>>[]): string {
  const keys = Object.keys(records[0] ?? {});
  const cell = (value: unknown) => {
    const text = String(value ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [keys, ...records.map((record) => keys.map((key) => record[key]))].map((row) => row.map(cell).join(",")).join(
    "\n",
  );
}
