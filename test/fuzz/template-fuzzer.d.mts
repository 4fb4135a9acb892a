import type { ChatMessage, ChatTemplate, ChatTemplateOptions } from '../../src/generation/chat-template'
import type { performRendering, TemplateCache } from '../../src/generation/template-rendering'
import type { Outcomes } from './outcomes.mjs'

export type Render = (source: string, messages: readonly ChatMessage[], options: ChatTemplateOptions) => string

export function templatesOf(models: string, ...tables: string[]): string[]

export function renderAsGenerationsDo(modules: {
  readonly ChatTemplate: typeof ChatTemplate
  readonly performRendering: typeof performRendering
  readonly TemplateCache: typeof TemplateCache
}): Render

export function fuzzTemplates(options: {
  readonly sources: readonly string[]
  readonly render: Render
  readonly seed: number
  readonly first?: number
  readonly more: (cases: number) => boolean
}): Promise<Outcomes>
