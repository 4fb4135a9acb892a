import { useCallback, useRef, useState } from 'preact/hooks'
import { Answer, type Turn } from './answer'
import type { Api } from './api'

/**
 * A conversation with a model.
 * @param returnDraft is given the text of a message that got no answer, so that it can be sent again
 */
export function useConversation(api: Api, model: string, returnDraft: (text: string) => void) {
  const [turns, setTurns] = useState<readonly Turn[]>([])
  const [problem, setProblem] = useState<string>()
  const [isAnswering, setAnswering] = useState(false)
  const controller = useRef<AbortController>(undefined)
  const stop = useCallback(() => controller.current?.abort(), [])

  const ask = async (text: string) => {
    const own = new AbortController()
    controller.current = own
    setProblem(undefined)
    setAnswering(true)
    const before = [...turns, { role: 'user', content: text } as const]
    const answer = new Answer((latest) => {
      if (controller.current === own) setTurns([...before, latest])
    })
    try {
      const messages = before.map(({ role, content }) => ({ role, content }))
      for await (const part of api.chat(model, messages, own.signal)) answer.add(part)
    } catch (error) {
      if (controller.current !== own) return // cleared
      if (own.signal.aborted) answer.end('stopped')
      else setProblem((error as Error).message)
      if (answer.isEmpty) {
        setTurns(turns)
        returnDraft(text)
      }
    }
    if (controller.current === own) setAnswering(false)
  }

  const clear = () => {
    stop()
    controller.current = undefined
    setTurns([])
    setProblem(undefined)
    setAnswering(false)
  }
  return { turns, problem, isAnswering, ask, stop, clear }
}
