/** The most memory that this process has had, in bytes. */
export function peakMemory(): number
export function tidy(): void
/** @throws Error if the process has grown by more than it may since this module was imported */
export function checkMemory(after: string): void
