/** Counts what became of a fuzzer's cases, by kind. */
export class Outcomes {
  readonly total: number
  readonly slowest: { readonly milliseconds: number; readonly number: number }
  /** Cases whose kind begins so. */
  of(start: string): number
  table(lines?: number): string
}
