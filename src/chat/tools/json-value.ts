/** Finds the end of a JSON value that comes in parts, and mends what models get wrong in its strings. */
export class JsonValue {
  #depth = 0
  #isString = false
  #isEscaped = false
  #isLiteral = false
  #isEmpty = true
  isComplete = false

  /**
   * Reads on.
   * @returns where it stopped, and its part of the value; control characters in strings, which JSON forbids, are escaped
   */
  read(text: string, at: number): { readonly end: number; readonly part: string } {
    let part = ''
    let copied = at
    for (let i = at; i < text.length; i++) {
      const character = text[i] as string
      if (this.#isString) {
        if (character < ' ') {
          part += text.slice(copied, i) + JSON.stringify(character).slice(1, -1)
          copied = i + 1
        }
        this.#readInString(character)
      } else if (this.#isLiteral && /[\s,}\]]/.test(character)) {
        this.isComplete = true
        return { end: i, part: part + text.slice(copied, i) }
      } else {
        this.#readOutside(character)
      }
      if (this.isComplete) return { end: i + 1, part: part + text.slice(copied, i + 1) }
    }
    return { end: text.length, part: part + text.slice(copied) }
  }

  #readInString(character: string): void {
    if (this.#isEscaped) this.#isEscaped = false
    else if (character === '\\') this.#isEscaped = true
    else if (character === '"') {
      this.#isString = false
      this.isComplete = this.#depth === 0
    }
  }

  #readOutside(character: string): void {
    if (character === '"') this.#isString = true
    else if (character === '{' || character === '[') this.#depth++
    else if (character === '}' || character === ']') {
      this.#depth--
      this.isComplete = this.#depth === 0
    } else if (this.#isEmpty) this.#isLiteral = true
    this.#isEmpty = false
  }
}
