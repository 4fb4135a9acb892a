/** A grammar as the native side takes it (binding/grammar/automaton.h); rule 0 is the whole text. */
export interface Automaton {
  readonly states: number
  /** Four numbers an edge: from, lowest byte, highest byte, to. */
  readonly byteEdges: Int32Array
  /** Three numbers a call: from, rule or -1 for none, to. */
  readonly calls: Int32Array
  /** Two numbers a rule: start and end. */
  readonly rules: Int32Array
}

export interface Rule {
  readonly id: number
  readonly start: number
  readonly end: number
  /** For messages. */
  readonly name: string
}

/** Of a call that goes on without reading anything. */
export const NO_RULE = -1
