/** The environment variables of Python's huggingface_hub, as it reads them. */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { isMissing } from '../checkpoint/files'
import { BillfishError } from '../common/errors'
import { printed } from '../options/printed'

const DEFAULT_ENDPOINT = 'https://huggingface.co'
const DEFAULT_TIMEOUT_SECONDS = 10
const MAX_TOKEN_LENGTH = 4096

function hubHome(): string {
  const { HF_HOME, XDG_CACHE_HOME } = process.env
  return expandHome(HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface'))
}

/** The directory of the cache: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, or `hub` in HF_HOME. */
export function hubCache(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE } = process.env
  return expandHome(HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(hubHome(), 'hub'))
}

/** Python expands it in these variables, where no shell has done so. */
function expandHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path
}

/** Whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network. */
export function isOffline(): boolean {
  const { HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE } = process.env
  return isTrue(HF_HUB_OFFLINE) || isTrue(TRANSFORMERS_OFFLINE)
}

/** Whether HF_HUB_DISABLE_PROGRESS_BARS asks for none. */
export function hidesProgress(): boolean {
  return isTrue(process.env.HF_HUB_DISABLE_PROGRESS_BARS)
}

function isTrue(value: string | undefined): boolean {
  return value !== undefined && ['1', 'ON', 'YES', 'TRUE'].includes(value.toUpperCase())
}

/** Milliseconds without a byte after which a connection is given up: HF_HUB_DOWNLOAD_TIMEOUT, in seconds. */
export function idleTimeout(): number {
  const given = process.env.HF_HUB_DOWNLOAD_TIMEOUT
  if (!given) return DEFAULT_TIMEOUT_SECONDS * 1000
  const seconds = Number(given)
  if (seconds > 0 && seconds <= 86_400) return seconds * 1000
  throw new BillfishError(
    'INVALID_OPTION',
    `HF_HUB_DOWNLOAD_TIMEOUT is ${printed(given)}, but must be a number of seconds above 0, up to 86400.`,
  )
}

/**
 * The Hub's address without a slash at its end: the option's, HF_ENDPOINT, or https://huggingface.co.
 * @throws BillfishError INVALID_OPTION for one that is no URL, or not encrypted and not of this machine
 */
export function hubEndpoint(option: string | undefined): string {
  const name = option === undefined ? 'HF_ENDPOINT' : 'endpoint'
  const given = option ?? (process.env.HF_ENDPOINT || DEFAULT_ENDPOINT)
  const url = URL.canParse(given) ? new URL(given) : undefined
  const refuse = (why: string) => new BillfishError('INVALID_OPTION', `${name} is ${printed(given)}, but ${why}.`)
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '') {
    throw refuse('must be a URL such as https://huggingface.co')
  }
  if (url.username !== '' || url.password !== '') throw refuse('a URL has no password in it; set HF_TOKEN')
  if (!isPrivate(url)) throw refuse('must begin with https:// unless it is on this machine')
  return url.href.replace(/\/+$/, '')
}

/** Whether nobody else can read or change what is sent: it is encrypted, or stays on this machine. */
export function isPrivate({ protocol, hostname }: URL): boolean {
  return protocol === 'https:' || hostname === 'localhost' || hostname === '[::1]' || /^127\./.test(hostname)
}

/**
 * The access token: the option's, HF_TOKEN, or what `hf auth login` has stored; undefined if there is none.
 * @throws BillfishError INVALID_OPTION for one that no request could carry; the message does not show it
 */
export async function hubToken(option: string | undefined): Promise<string | undefined> {
  const { HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH } = process.env
  const path = HF_TOKEN_PATH ? expandHome(HF_TOKEN_PATH) : join(hubHome(), 'token')
  const [token, where] =
    option !== undefined
      ? [option, 'token']
      : HF_TOKEN || HUGGING_FACE_HUB_TOKEN
        ? [HF_TOKEN || HUGGING_FACE_HUB_TOKEN, HF_TOKEN ? 'HF_TOKEN' : 'HUGGING_FACE_HUB_TOKEN']
        : [await storedToken(path), path]
  const trimmed = token?.trim()
  if (!trimmed) return undefined
  if (trimmed.length <= MAX_TOKEN_LENGTH && /^[\x21-\x7e]+$/.test(trimmed)) return trimmed
  throw new BillfishError('INVALID_OPTION', `${where} holds no access token: a token is one word of plain characters.`)
}

async function storedToken(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if (isMissing(cause)) return undefined
    throw new BillfishError('INVALID_OPTION', `The token in ${path} cannot be read: ${(cause as Error).message}.`, {
      cause,
    })
  }
}
