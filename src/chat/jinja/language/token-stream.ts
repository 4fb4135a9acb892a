import { type Budget, BudgetExhausted } from '../budget'
import { TemplateSyntaxError } from '../errors'
import { Lexer, type Token, type TokenType } from './lexer'

/** The lexer's tokens with one token of foresight, and what every parser needs. */
export class TokenStream {
  readonly budget: Budget
  readonly #lexer: Lexer
  #ahead: Token | undefined
  current: Token

  constructor(source: string, budget: Budget) {
    this.budget = budget
    this.#lexer = new Lexer(source, budget)
    this.current = this.#lexer.next()
  }

  get line(): number {
    return this.current.line
  }

  /** The token after the current one. */
  look(): Token {
    this.#ahead ??= this.#lexer.next()
    return this.#ahead
  }

  /** Goes on, and returns the token that was the current one. */
  next(): Token {
    const token = this.current
    this.current = this.look()
    this.#ahead = undefined
    return token
  }

  is(type: TokenType, value?: string): boolean {
    return this.current.type === type && (value === undefined || this.current.value === value)
  }

  isName(...names: string[]): boolean {
    return this.current.type === 'name' && names.includes(this.current.value)
  }

  /** Takes the current token if it is this one. */
  skip(type: TokenType, value?: string): boolean {
    if (!this.is(type, value)) return false
    this.next()
    return true
  }

  expect(type: TokenType, value?: string): Token {
    if (this.is(type, value)) return this.next()
    throw this.fail(`expected ${value ?? type}, got ${described(this.current)}`)
  }

  fail(message: string, line = this.line): TemplateSyntaxError {
    return new TemplateSyntaxError(message, line)
  }

  /** Parses what is nested one level deeper. */
  nested<T>(parse: () => T): T {
    this.budget.enter()
    try {
      return parse()
    } finally {
      this.budget.leave()
    }
  }

  /** For chains such as `a + b + c`, whose trees are as deep as they are long. */
  checkChain(links: number): void {
    if (links > MAX_CHAIN) throw new BudgetExhausted('depth', { ...this.budget.limits, depth: MAX_CHAIN })
  }
}

const MAX_CHAIN = 400

/** A token as it may stand in a message. */
export function described({ type, value }: Token): string {
  if (type === 'block_end') return 'end of statement block'
  if (type === 'variable_end') return 'end of print statement'
  return type === 'name' || type === 'string' ? JSON.stringify(value.slice(0, 80)) : `'${type}'`
}
