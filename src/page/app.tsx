import { useEffect, useMemo, useState } from 'preact/hooks'
import type { Status } from '../server/status'
import { Api, ApiError } from './api'
import { Chat } from './chat'
import { DeviceTable } from './device-table'
import { Head } from './head'
import { KeyForm } from './key-form'
import { Numbers } from './numbers'
import { ratesOf, withReading } from './readings'

/** Where the key is kept while the tab is open. */
const KEY = 'billfish.key'

/** Milliseconds between readings. */
const INTERVAL = 1000

export function App() {
  const [key, setKey] = useState(() => sessionStorage.getItem(KEY) ?? '')
  const api = useMemo(() => new Api(key), [key])
  const { readings, problem } = useReadings(api)
  const [model, setModel] = useState(0)
  const last = readings.at(-1)
  const shown = last?.models[model]

  if (problem instanceof ApiError && problem.status === 401) {
    const keep = (given: string) => {
      sessionStorage.setItem(KEY, given)
      setKey(given)
    }
    return <KeyForm wasRefused={key !== ''} onKey={keep} />
  }
  return (
    <>
      <Head status={last} model={model} onModel={setModel} problem={problem} />
      {last && shown && (
        <div class="columns">
          <main>
            <Numbers model={shown} index={model} readings={readings} rates={ratesOf(readings, model)} />
            <DeviceTable model={shown} devices={last.devices} busy={ratesOf(readings, model)?.busy} />
          </main>
          <Chat api={api} name={shown.names[0] ?? ''} canChat={shown.chats} />
        </div>
      )}
    </>
  )
}

/** Readings of the server's status, one a second while the page is seen, and why the last one failed. */
function useReadings(api: Api): { readings: readonly Status[]; problem: unknown } {
  const [readings, setReadings] = useState<readonly Status[]>([])
  const [problem, setProblem] = useState<unknown>()
  useEffect(() => {
    const controller = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    const read = async () => {
      try {
        const next = await api.status(controller.signal)
        setReadings((readings) => withReading(readings, next))
        setProblem(undefined)
      } catch (error) {
        if (controller.signal.aborted) return
        setProblem(error)
        if (error instanceof ApiError && error.status === 401) return
      }
      if (!document.hidden) timer = setTimeout(read, INTERVAL)
    }
    const resume = () => {
      clearTimeout(timer)
      if (!document.hidden) void read()
    }
    document.addEventListener('visibilitychange', resume)
    void read()
    return () => {
      document.removeEventListener('visibilitychange', resume)
      clearTimeout(timer)
      controller.abort()
    }
  }, [api])
  return { readings, problem }
}
