import type { FinishReason, GenerationTimings, GenerationUsage } from './results'

/** How a generation ended, whether or not it has a result. */
export interface GenerationEnd {
  /** `abort` if its caller ended it, `error` if it failed. */
  readonly reason: FinishReason | 'abort' | 'error'
  readonly usage: GenerationUsage
  /** Undefined if it has no result. */
  readonly timings: GenerationTimings | undefined
}

/**
 * Is told of a model's generations as they happen, for metrics. Called between steps: what takes long delays all
 * generations. What it throws becomes a process warning.
 */
export interface GenerationObserver {
  /** @param milliseconds since generate() */
  onFirstToken?(milliseconds: number, promptTokens: number): void
  /** @param milliseconds since the token before */
  onNextToken?(milliseconds: number): void
  onEnd?(end: GenerationEnd): void
}

/** The observers of a model. */
export class GenerationObservers implements Required<GenerationObserver> {
  readonly #observers = new Set<GenerationObserver>()

  /** @returns a function that removes it */
  add(observer: GenerationObserver): () => void {
    this.#observers.add(observer)
    return () => {
      this.#observers.delete(observer)
    }
  }

  onFirstToken(milliseconds: number, promptTokens: number): void {
    this.#tell((observer) => observer.onFirstToken?.(milliseconds, promptTokens))
  }

  onNextToken(milliseconds: number): void {
    this.#tell((observer) => observer.onNextToken?.(milliseconds))
  }

  onEnd(end: GenerationEnd): void {
    this.#tell((observer) => observer.onEnd?.(end))
  }

  #tell(call: (observer: GenerationObserver) => void): void {
    for (const observer of this.#observers) {
      try {
        call(observer)
      } catch (error) {
        process.emitWarning(error instanceof Error ? error : String(error))
      }
    }
  }
}
