import { BillfishError } from '../common/errors'
import { printed } from '../options/printed'

/** A model on the Hub, as callers name it: `Qwen/Qwen3-0.6B`, or `Qwen/Qwen3-0.6B@REVISION`. */
export interface HubName {
  /** `owner/name`. */
  readonly repo: string
  /** A branch, tag, `refs/pr/N` or commit; undefined for the main branch. */
  readonly revision: string | undefined
}

const PART = /^[A-Za-z0-9][\w.-]{0,95}$/
const REVISION = /^[A-Za-z0-9_][\w./-]{0,254}$/
/** What the cache's folder names, or paths, would read differently. */
const AMBIGUOUS = /--|\.\.|[.-]$|\.git$|\.lock$/
const AMBIGUOUS_REF = /\.\.|\.$|\.lock$/
export const DEFAULT_REVISION = 'main'

/** Reads a name; undefined for a text that is none, such as a path. */
export function parseHubName(text: string): HubName | undefined {
  const [repo = '', ...rest] = text.split('@')
  const revision = rest.length === 0 ? undefined : rest.join('@')
  if (!isRepo(repo) || (revision !== undefined && !isRevision(revision))) return undefined
  return { repo, revision }
}

/** @throws BillfishError INVALID_OPTION for a text that is no name of a model */
export function readHubName(text: string): HubName {
  const name = parseHubName(text)
  if (name !== undefined) return name
  throw new BillfishError(
    'INVALID_OPTION',
    `The model is ${printed(text)}, but must be a name on the Hub, OWNER/NAME or OWNER/NAME@REVISION, such as Qwen/Qwen3-0.6B.`,
  )
}

function isRepo(repo: string): boolean {
  const parts = repo.split('/')
  return parts.length === 2 && parts.every((part) => PART.test(part) && !AMBIGUOUS.test(part))
}

/** Whether a text can be a branch, a tag or a commit, and a path below the cache's `refs`. */
export function isRevision(revision: string): boolean {
  return (
    REVISION.test(revision) && revision.split('/').every((part) => /^[\w-]/.test(part) && !AMBIGUOUS_REF.test(part))
  )
}

/** Whether a revision is a commit, whose files never change. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision)
}
