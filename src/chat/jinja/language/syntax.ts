import type { Value } from '../values/values'

export type BinaryOperator = '+' | '-' | '*' | '/' | '//' | '%' | '**'
export type Comparison = '==' | '!=' | '<' | '<=' | '>' | '>=' | 'in' | 'not in'

export interface Arguments {
  readonly positional: readonly Expression[]
  readonly named: readonly { readonly name: string; readonly value: Expression }[]
  /** `*expression` */
  readonly rest: Expression | undefined
  /** `**expression` */
  readonly namedRest: Expression | undefined
}

interface At {
  readonly line: number
}

export type Name = At & { readonly kind: 'name'; readonly name: string }
export type Call = At & { readonly kind: 'call'; readonly callee: Expression; readonly args: Arguments }
export type Filter = At & {
  readonly kind: 'filter'
  readonly name: string
  /** Undefined for the captured output of a filter or set block. */
  readonly value: Expression | undefined
  readonly args: Arguments
}
export type Slice = At & {
  readonly kind: 'slice'
  readonly start: Expression | undefined
  readonly stop: Expression | undefined
  readonly step: Expression | undefined
}

export type Expression =
  | Name
  | Call
  | Filter
  | Slice
  | (At & { readonly kind: 'constant'; readonly value: Value })
  | (At & { readonly kind: 'tuple' | 'list' | 'concat'; readonly items: readonly Expression[] })
  | (At & { readonly kind: 'dict'; readonly pairs: readonly (readonly [Expression, Expression])[] })
  | (At & { readonly kind: 'attribute'; readonly object: Expression; readonly name: string })
  | (At & { readonly kind: 'item'; readonly object: Expression; readonly key: Expression })
  | (At & { readonly kind: 'test'; readonly name: string; readonly value: Expression; readonly args: Arguments })
  | (At & {
      readonly kind: 'conditional'
      readonly test: Expression
      readonly then: Expression
      readonly otherwise: Expression | undefined
    })
  | (At & { readonly kind: 'and' | 'or'; readonly left: Expression; readonly right: Expression })
  | (At & { readonly kind: 'not' | 'negative' | 'positive'; readonly operand: Expression })
  | (At & {
      readonly kind: 'binary'
      readonly operator: BinaryOperator
      readonly left: Expression
      readonly right: Expression
    })
  | (At & {
      readonly kind: 'compare'
      readonly first: Expression
      readonly rest: readonly { readonly operator: Comparison; readonly operand: Expression }[]
    })

/** Left side of an assignment. */
export type Target =
  | Name
  | (At & { readonly kind: 'targets'; readonly items: readonly Target[] })
  | (At & { readonly kind: 'namespace'; readonly name: string; readonly attribute: string })

export interface Signature {
  readonly parameters: readonly string[]
  /** For the last parameters. */
  readonly defaults: readonly Expression[]
}

export type Body = readonly Statement[]

export type Statement =
  | (At & { readonly kind: 'output'; readonly parts: readonly (string | Expression)[] })
  | (At & {
      readonly kind: 'for'
      readonly target: Target
      readonly iterable: Expression
      readonly condition: Expression | undefined
      readonly recursive: boolean
      readonly body: Body
      readonly otherwise: Body
    })
  | (At & {
      readonly kind: 'if'
      readonly branches: readonly { readonly test: Expression; readonly body: Body }[]
      readonly otherwise: Body
    })
  | (At & { readonly kind: 'set'; readonly target: Target; readonly value: Expression })
  | (At & {
      readonly kind: 'set block'
      readonly target: Target
      readonly filter: Filter | undefined
      readonly body: Body
    })
  | (At & {
      readonly kind: 'with'
      readonly targets: readonly Target[]
      readonly values: readonly Expression[]
      readonly body: Body
    })
  | (At & { readonly kind: 'macro'; readonly name: string; readonly signature: Signature; readonly body: Body })
  | (At & { readonly kind: 'call block'; readonly call: Call; readonly signature: Signature; readonly body: Body })
  | (At & { readonly kind: 'filter block'; readonly filter: Filter; readonly body: Body })
  | (At & {
      readonly kind: 'block'
      readonly name: string
      readonly scoped: boolean
      readonly required: boolean
      readonly body: Body
    })
  | (At & { readonly kind: 'autoescape'; readonly value: Expression; readonly body: Body })
  /** The `generation` tag of transformers. */
  | (At & { readonly kind: 'generation'; readonly body: Body })
  /** `include`, `import`, `from` and `extends`, which chat templates cannot use. */
  | (At & { readonly kind: 'load'; readonly tag: string })
  | (At & { readonly kind: 'break' | 'continue' })
