/** Steps with a draft so far, the tokens of these drafts, and those of them that were right. */
export interface SpeculationCounts {
  readonly drafts: number
  readonly draftTokens: number
  readonly acceptedTokens: number
}
