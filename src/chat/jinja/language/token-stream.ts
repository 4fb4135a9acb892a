import { type Budget, BudgetExhausted } from '../budget'
import { TemplateSyntaxError } from '../errors'
import { Lexer, type Token, type TokenType } from './lexer'

/** Tokens of the lexer with one token of lookahead, and helpers shared by the parsers. */
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

  /** Advances and returns the previous token. */
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

  /** Consumes the current token if it matches. */
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

  /** Parses one level deeper. */
  nested<T>(parse: () => T): T {
    this.budget.enter()
    try {
      return parse()
    } finally {
      this.budget.leave()
    }
  }

  /** For chains such as `a + b + c`, whose syntax trees are as deep as they are long. */
  checkChain(links: number): void {
    if (links > MAX_CHAIN) throw new BudgetExhausted('depth', { ...this.budget.limits, depth: MAX_CHAIN })
  }
}

const MAX_CHAIN = 400

/** Describes a token for an error message. */
export function described({ type, value }: Token): string {
  if (type === 'block_end') return 'end of statement block'
  if (type === 'variable_end') return 'end of print statement'
  return type === 'name' || type === 'string' ? JSON.stringify(value.slice(0, 80)) : `'${type}'`
}
