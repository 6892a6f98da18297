/**
 * Owns: how tables and figures look in what the benches print.
 * Runs in: the bench's process on the host.
 * Must not: know what is measured.
 */

export const thousands = (count: number): string => `${(count / 1000).toFixed(1)}k`;

export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Between the smallest and the largest, as a part of the mean; `-` for one alone. */
export function spreadText(values: readonly number[]): string {
  if (values.length < 2) return '-';
  const spread = (Math.max(...values) - Math.min(...values)) / meanOf(values);
  return `${(spread * 100).toFixed(1)}%`;
}

/** Lines of cells in columns; the first two columns are text. */
export function layout(lines: readonly (readonly string[])[]): string {
  const widths = (lines[0] ?? []).map((_, column) =>
    Math.max(...lines.map((line) => line[column]?.length ?? 0)),
  );
  return lines
    .map((line) =>
      line
        .map((cell, column) => {
          const width = widths[column] ?? 0;
          return column < 2 ? cell.padEnd(width) : cell.padStart(width);
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
