import { useEffect, useRef } from 'preact/hooks'

interface Props {
  readonly draft: string
  readonly isAnswering: boolean
  onDraft(text: string): void
  onSend(): void
  onStop(): void
}

/** Where a message is written. */
export function Composer({ draft, isAnswering, onDraft, onSend, onStop }: Props) {
  const field = useRef<HTMLTextAreaElement>(null)
  useEffect(() => {
    const { current } = field
    if (!current) return
    current.style.height = 'auto'
    current.style.height = `${current.scrollHeight + 2}px`
  }, [draft])
  const submit = (event: Event) => {
    event.preventDefault()
    onSend()
    field.current?.focus()
  }
  const sendOnEnter = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) submit(event)
  }
  return (
    <form onSubmit={submit}>
      <label class="hidden" for="message">
        Message
      </label>
      <div class="field">
        <textarea
          id="message"
          ref={field}
          rows={1}
          value={draft}
          placeholder="Message"
          aria-describedby="keys"
          onInput={({ currentTarget }) => onDraft(currentTarget.value)}
          onKeyDown={sendOnEnter}
        />
        {isAnswering ? (
          <button type="button" onClick={onStop}>
            Stop
          </button>
        ) : (
          <button type="submit">Send</button>
        )}
      </div>
      <small id="keys">Enter sends, Shift+Enter starts a new line, Escape stops an answer.</small>
    </form>
  )
}
