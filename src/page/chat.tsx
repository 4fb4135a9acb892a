import { useEffect, useRef, useState } from 'preact/hooks'
import type { Turn } from './answer'
import type { Api } from './api'
import { Composer } from './composer'
import { useConversation } from './conversation'

interface Props {
  readonly api: Api
  /** The model's. */
  readonly name: string
  readonly canChat: boolean
}

/** A conversation with a model. */
export function Chat({ api, name, canChat }: Props) {
  const [draft, setDraft] = useState('')
  const { turns, isAnswering, problem, ask, stop, clear } = useConversation(api, name, setDraft)
  const log = useRef<HTMLDivElement>(null)
  useEffect(() => {
    const stopOnEscape = ({ key }: KeyboardEvent) => {
      if (key === 'Escape') stop()
    }
    document.addEventListener('keydown', stopOnEscape)
    return () => document.removeEventListener('keydown', stopOnEscape)
  }, [stop])
  useEffect(() => {
    const { current } = log
    if (current && isNearEnd(current)) current.scrollTop = current.scrollHeight
  }, [turns])
  const send = () => {
    if (isAnswering || draft.trim() === '') return
    setDraft('')
    ask(draft)
  }
  return (
    <section id="chat" class="chat" aria-labelledby="chat-title">
      <div class="title">
        <h2 id="chat-title">Chat</h2>
        {turns.length > 0 && (
          <button type="button" class="quiet" onClick={clear}>
            New chat
          </button>
        )}
      </div>
      <div ref={log} class="log" role="log" aria-label="Conversation" aria-busy={isAnswering}>
        {turns.length === 0 && (
          <p class="muted empty">
            {canChat ? `Ask ${name} something.` : `${name} has no chat template, so it does not answer messages.`}
          </p>
        )}
        {turns.map((turn, index) => (
          <TurnView key={index} turn={turn} isAnswering={isAnswering && index === turns.length - 1} />
        ))}
        {problem !== undefined && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
      </div>
      {canChat && <Composer draft={draft} onDraft={setDraft} isAnswering={isAnswering} onSend={send} onStop={stop} />}
    </section>
  )
}

function TurnView({ turn, isAnswering }: { turn: Turn; isAnswering: boolean }) {
  return (
    <article class={turn.role}>
      <h3 class="hidden">{turn.role === 'user' ? 'You' : 'Answer'}</h3>
      {turn.reasoning && (
        <details>
          <summary>{isAnswering && turn.content === '' ? 'Reasoning …' : 'Reasoning'}</summary>
          <div class="text">{turn.reasoning}</div>
        </details>
      )}
      <div class="text">
        {turn.content}
        {isAnswering && <span class="caret" aria-hidden="true" />}
      </div>
      {turn.note && <small>{turn.note}</small>}
    </article>
  )
}

/** Whether the reader follows: nobody who has scrolled up is pulled down. */
function isNearEnd({ scrollHeight, scrollTop, clientHeight }: HTMLElement): boolean {
  return scrollHeight - scrollTop - clientHeight < 120
}
