/** The source is not a valid Jinja template. `line` is 1-based. */
export class TemplateSyntaxError extends Error {
  readonly line: number

  constructor(message: string, line: number) {
    super(`line ${line}: ${message}`)
    this.name = 'TemplateSyntaxError'
    this.line = line
  }
}

/** Exceptions of Python and Jinja2 that rendering can raise. */
export type PythonErrorType =
  | 'AssertionError'
  | 'AttributeError'
  | 'FilterArgumentError'
  | 'IndexError'
  | 'KeyError'
  | 'OverflowError'
  | 'SecurityError'
  | 'TemplateError'
  | 'RuntimeError'
  | 'TemplateRuntimeError'
  | 'TypeError'
  | 'UndefinedError'
  | 'ValueError'
  | 'ZeroDivisionError'

/** An exception that Python would raise while rendering. */
export class PythonError extends Error {
  readonly type: PythonErrorType

  constructor(type: PythonErrorType, message: string) {
    super(message)
    this.name = type
    this.type = type
  }

  /** Whether an `except` clause with these types would catch `error`. */
  static is(error: unknown, ...types: PythonErrorType[]): error is PythonError {
    return error instanceof PythonError && types.includes(error.type)
  }
}

export function typeError(message: string): PythonError {
  return new PythonError('TypeError', message)
}

export function valueError(message: string): PythonError {
  return new PythonError('ValueError', message)
}
