/**
 * Everything that `import ... from 'billfish/server'` gives: models over HTTP, for OpenAI's clients.
 * @module billfish/server
 */
export type { Models } from '../named-models'
export { type App, type AppOptions, createApp } from './create-app'
export type { RequestOptions } from './options'
export type { RequestLogger } from './request-log'
export type { AnswerFormats } from './served-models'
export { createServer, type RunningServer, type ServerOptions } from './server'
