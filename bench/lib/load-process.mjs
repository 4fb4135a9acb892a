/**
 * The load generator as a measured process: clients of a server's /v1/completions that stream answers to prompts of token
 * ids. It knows nothing of the program behind the URL.
 */
import { setMaxListeners } from 'node:events'
import { Agent, request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { answerRequests } from './measured-process.mjs'
import { randomWords } from './random-numbers.mjs'
import { END_OF_TEXT } from './random-vocabulary.mjs'

// Not fetch(): its streams cost more for each event than the servers' own. A connection a request, for a server may close
// an idle one just when it is used again.
const agent = new Agent({ keepAlive: false, maxSockets: Number.POSITIVE_INFINITY })

/**
 * Asks for one answer and reads it to its end.
 * @returns when it was asked for, when each of its events came, and how many tokens it has; undefined if `signal` aborted
 *   it, whose events have been told to `onEvent`
 */
function complete(url, body, signal, onEvent) {
  return new Promise((resolve, reject) => {
    const fail = (error) => (signal.aborted ? resolve(undefined) : reject(error))
    const asked = performance.now()
    const options = { method: 'POST', agent, signal, headers: { 'content-type': 'application/json' } }
    const request = httpRequest(`${url}/v1/completions`, options, (response) => {
      let rest = ''
      let tokens
      const events = []
      response.setEncoding('utf8')
      response.on('error', fail)
      response.on('data', (text) => {
        const now = performance.now()
        const lines = (rest + text).split('\n')
        rest = lines.pop()
        for (const line of lines) {
          if (!line.startsWith('data: {')) continue
          const { choices, usage, error } = JSON.parse(line.slice(6))
          if (error) return request.destroy(new Error(`the server says: ${error.message}`))
          tokens = usage?.completion_tokens ?? tokens
          if (choices?.[0]?.text) onEvent(now, events.push(now) - 1)
        }
      })
      response.on('end', () => {
        if (response.statusCode === 200) resolve({ asked, events, tokens })
        else reject(new Error(`the status is ${response.statusCode}: ${rest.slice(0, 500)}`))
      })
    })
    request.on('error', fail)
    request.end(JSON.stringify(body))
  })
}

/** What a measurement counts. Times are milliseconds. */
class Counts {
  #firstTokens = []
  #gaps = []
  tokens = 0
  requests = 0

  /** Counts an answer's events as they come, so that those of answers that are cut off count, too. */
  watch(asked) {
    let last = asked
    return (now, index) => {
      this.tokens++
      const times = index === 0 ? this.#firstTokens : this.#gaps
      times.push(now - last)
      last = now
    }
  }

  /** An event may carry several tokens. */
  completed({ events, tokens }) {
    this.requests++
    this.tokens += (tokens ?? events.length) - events.length
  }

  result(milliseconds) {
    const seconds = milliseconds / 1000
    return {
      seconds,
      requests: this.requests,
      tokens: this.tokens,
      tokensPerSecond: this.tokens / seconds,
      firstToken: percentiles(this.#firstTokens),
      nextToken: percentiles(this.#gaps),
    }
  }
}

function percentiles(times) {
  const sorted = times.toSorted((a, b) => a - b)
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? Number.NaN }
}

/** Ids that are text, the same for the same name. */
function randomTokens(name, count, vocab) {
  const first = END_OF_TEXT + 1
  return Array.from(randomWords(name, count), (word) => first + (word % (vocab - first)))
}

/** The body of a measurement's request number `index`. Prompts begin alike for `shared` tokens. */
function bodyOf({ prompt, shared, tokens, vocab, seed }, index) {
  const beginning = randomTokens(seed, shared, vocab)
  const ids = [...beginning, ...randomTokens(`${seed}/${index}`, prompt - shared, vocab)]
  const stream = { stream: true, stream_options: { include_usage: true } }
  return { model: 'bench', prompt: ids, max_tokens: tokens, temperature: 0, ignore_eos: true, ...stream }
}

/** Runs `load(ask, isOver)` for some seconds, and cuts off what is under way then. */
async function measured({ url, seconds, work }, load) {
  const end = new AbortController()
  setMaxListeners(0, end.signal) // one for each client
  const counts = new Counts()
  const started = performance.now()
  const ask = async (index) => {
    const answer = await complete(url, bodyOf(work, index), end.signal, counts.watch(performance.now()))
    if (answer) counts.completed(answer)
  }
  const running = load(ask, end.signal)
  running.catch(() => end.abort()) // a client that fails ends the measurement
  await sleep(seconds * 1000, undefined, { signal: end.signal }).catch(() => {})
  const result = counts.result(performance.now() - started)
  end.abort()
  await running
  return result
}

answerRequests({
  /** Clients that each ask again as soon as they have their answer. */
  closed({ clients, ...options }) {
    let asked = 0
    const client = async (ask, over) => {
      while (!over.aborted) await ask(asked++)
    }
    return measured(options, (ask, over) => Promise.all(Array.from({ length: clients }, () => client(ask, over))))
  },

  /** Requests that come at random moments, `rate` of them a second on average, however many are under way. */
  open({ rate, ...options }) {
    // Exponential intervals: a Poisson process. As many as no measurement has, and the same for every program.
    const words = randomWords(options.work.seed, Math.ceil(rate * options.seconds * 4) + 16)
    const intervals = Array.from(words, (word) => (-Math.log(1 - word / 2 ** 32) / rate) * 1000)
    return measured(options, async (ask, over) => {
      const asked = []
      for (const interval of intervals) {
        await sleep(interval, undefined, { signal: over }).catch(() => {})
        if (over.aborted) break
        asked.push(ask(asked.length))
      }
      await Promise.all(asked)
    })
  },

  /** One answer. */
  async warmUp({ url, work }) {
    await complete(url, bodyOf(work, 'warm-up'), new AbortController().signal, () => {})
  },
})
