/** GET /metrics: Prometheus metrics by vLLM's names, so that dashboards and autoscalers made for it work, and devices'. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { GenerationEnd } from '../generation/observer'
import { measureEventLoopLag } from './event-loop-lag'
import type { ServedModel, ServedModels } from './served-models'

/** vLLM's buckets: seconds, and tokens. */
const FIRST_TOKEN = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
]
const NEXT_TOKEN = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
const REQUEST = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]
const TOKENS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000]

type Activity = ReturnType<ServedModel['model']['activity']>
type Labels = Readonly<Record<string, string>>
/** The values of a metric at the moment, one for each set of labels. */
type Reading = (served: ServedModel) => readonly (readonly [value: number, labels?: Labels])[]

export class Metrics {
  readonly #registry = new Registry()
  readonly #models: ServedModels
  readonly #promptTokens: Counter
  readonly #generatedTokens: Counter
  #stop: readonly (() => void)[]

  constructor(models: ServedModels) {
    this.#models = models
    const activity = (read: (now: Activity) => number | undefined): Reading => {
      return ({ model }) => {
        const value = read(model.activity())
        return value === undefined ? [] : [[value]]
      }
    }
    const gauge = this.#reader(Gauge)
    gauge(
      'vllm:num_requests_running',
      'Sequences being computed',
      [],
      activity(({ running }) => running),
    )
    gauge(
      'vllm:num_requests_waiting',
      'Sequences waiting for their turn',
      [],
      activity(({ waiting }) => waiting),
    )
    gauge(
      'billfish:num_requests_paused',
      'Sequences that nobody reads',
      [],
      activity(({ paused }) => paused),
    )
    gauge('vllm:kv_cache_usage_perc', 'Part of the KV cache in use, 0 to 1', [], activity(cacheUsage))
    gauge('billfish:device_memory_bytes', 'Bytes allocated, by use', ['device', 'use'], deviceMemory)
    const counter = this.#reader(Counter)
    counter(
      'vllm:num_preemptions_total',
      'Sequences recomputed',
      [],
      activity(({ preemptions }) => preemptions),
    )
    counter('billfish:stage_busy_seconds_total', 'Time that a stage has computed', ['stage'], ({ model }) =>
      Object.entries(model.activity().busy).map(([stage, busy]) => [busy / 1000, { stage }]),
    )
    counter(
      'vllm:prefix_cache_queries_total',
      'Prompt tokens looked up',
      [],
      activity(({ prefixCache }) => prefixCache?.queries),
    )
    counter(
      'vllm:prefix_cache_hits_total',
      'Prompt tokens found',
      [],
      activity(({ prefixCache }) => prefixCache?.hits),
    )
    counter(
      'vllm:spec_decode_num_drafts_total',
      'Drafts checked',
      [],
      activity(({ speculation }) => speculation?.drafts),
    )
    counter(
      'vllm:spec_decode_num_draft_tokens_total',
      'Tokens of drafts',
      [],
      activity(({ speculation }) => speculation?.draftTokens),
    )
    counter(
      'vllm:spec_decode_num_accepted_tokens_total',
      'Tokens of drafts that were right',
      [],
      activity(({ speculation }) => speculation?.acceptedTokens),
    )
    const tokens = (name: string, help: string) =>
      new Counter({ name, help, labelNames: ['model_name'], registers: [this.#registry] })
    this.#promptTokens = tokens('vllm:prompt_tokens_total', 'Prompt tokens, cached ones included')
    this.#generatedTokens = tokens('vllm:generation_tokens_total', 'Tokens generated')
    this.#stop = [...this.#observe(), measureEventLoopLag(this.#registry)]
  }

  async response(): Promise<Response> {
    return new Response(await this.#registry.metrics(), { headers: { 'content-type': this.#registry.contentType } })
  }

  /** How many tokens the prompts and answers of a model have had so far, by its first name. */
  async tokensOf(model: string): Promise<{ prompt: number; generated: number }> {
    const of = async (counter: Counter) => {
      const { values } = await counter.get()
      return values.find(({ labels }) => labels.model_name === model)?.value ?? 0
    }
    return { prompt: await of(this.#promptTokens), generated: await of(this.#generatedTokens) }
  }

  /** Stops observing the models. */
  close(): void {
    for (const stop of this.#stop) stop()
    this.#stop = []
  }

  /** Makes metrics that are read off the models when somebody asks for them. */
  #reader(Kind: typeof Gauge | typeof Counter) {
    return (name: string, help: string, labelNames: readonly string[], read: Reading): void => {
      const collect = () => {
        metric.reset()
        for (const served of this.#models.all) {
          for (const [value, labels] of read(served)) metric.inc({ model_name: served.name, ...labels }, value)
        }
      }
      const metric = new Kind({
        name,
        help,
        labelNames: ['model_name', ...labelNames],
        registers: [this.#registry],
        collect,
      })
    }
  }

  /** Counts what happens in the models from now on. */
  #observe(): (() => void)[] {
    const shared = { labelNames: ['model_name'], registers: [this.#registry] }
    const histogram = (name: string, help: string, buckets: number[]) =>
      new Histogram({ ...shared, name, help, buckets })
    const firstToken = histogram('vllm:time_to_first_token_seconds', 'From request to first token', FIRST_TOKEN)
    const nextToken = histogram('vllm:inter_token_latency_seconds', 'From one token to the next', NEXT_TOKEN)
    const total = histogram('vllm:e2e_request_latency_seconds', 'From request to last token', REQUEST)
    const prompts = histogram('vllm:request_prompt_tokens', "A request's prompt tokens", TOKENS)
    const answers = histogram('vllm:request_generation_tokens', "A request's generated tokens", TOKENS)
    const promptTokens = this.#promptTokens
    const generated = this.#generatedTokens
    const ended = new Counter({
      ...shared,
      name: 'vllm:request_success_total',
      help: 'Generations, by how they ended',
      labelNames: ['model_name', 'finished_reason'],
    })
    return this.#models.all.map(({ name: model_name, model }) => {
      const labels = { model_name }
      return model.observe({
        onFirstToken(milliseconds, count) {
          firstToken.observe(labels, milliseconds / 1000)
          promptTokens.inc(labels, count)
          generated.inc(labels)
        },
        onNextToken(milliseconds) {
          nextToken.observe(labels, milliseconds / 1000)
          generated.inc(labels)
        },
        onEnd({ reason, usage, timings }: GenerationEnd) {
          ended.inc({ model_name, finished_reason: reason })
          prompts.observe(labels, usage.promptTokens)
          answers.observe(labels, usage.completionTokens)
          if (timings !== undefined) total.observe(labels, timings.total / 1000)
        },
      })
    })
  }
}

function cacheUsage({ cacheTokens }: Activity): number {
  return cacheTokens.inUse / cacheTokens.total
}

const deviceMemory: Reading = ({ model }) =>
  model.memory().flatMap(({ device, weights, kvCache, states, buffers }) => {
    const uses = { weights, kv_cache: kvCache, states, buffers }
    return Object.entries(uses).map(([use, bytes]) => [bytes, { device, use }] as const)
  })
