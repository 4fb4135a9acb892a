import { useEffect, useRef } from 'preact/hooks'

interface Props {
  /** Whether a key was given, and was wrong. */
  readonly wasRefused: boolean
  onKey(key: string): void
}

/** Asks for the API key. */
export function KeyForm({ wasRefused, onKey }: Props) {
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => input.current?.focus(), [])
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    const key = input.current?.value.trim()
    if (key) onKey(key)
  }
  return (
    <main class="key">
      <h1>billfish</h1>
      <form onSubmit={submit}>
        <label for="key">This server asks for an API key</label>
        <div class="field">
          <input id="key" ref={input} type="password" autocomplete="off" required aria-describedby="key-note" />
          <button type="submit">Continue</button>
        </div>
        <p id="key-note" class={wasRefused ? 'problem' : 'muted'} role={wasRefused ? 'alert' : undefined}>
          {wasRefused ? 'The server does not know this key.' : 'It is kept until this tab is closed.'}
        </p>
      </form>
    </main>
  )
}
