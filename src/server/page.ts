/** GET /: the page of src/page, one file that Vite has built and that asks for nothing but this server's endpoints. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { BillfishError } from '../common/errors'

const FILE = join(__dirname, '..', '..', 'dist', 'page', 'index.html')

/** Answers with the page. */
export type Page = () => Response

/** @throws BillfishError INVALID_OPTION where it has not been built */
export function loadPage(file = FILE): Page {
  const html = readPage(file)
  const headers = {
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': policyOf(html),
    'cache-control': 'no-cache',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
  }
  return () => new Response(html, { headers })
}

function readPage(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    const message = `page: ${file} cannot be read (${(error as Error).message}). Run npm run build:ts, or set page to false.`
    throw new BillfishError('INVALID_OPTION', message)
  }
}

/** Runs the scripts and styles in this text and no others, and connects to this origin alone. */
function policyOf(html: string): string {
  return [
    "default-src 'none'",
    `script-src ${hashesOf(html, 'script')}`,
    `style-src ${hashesOf(html, 'style')}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
}

function hashesOf(html: string, element: 'script' | 'style'): string {
  const bodies = [...html.matchAll(new RegExp(`<${element}\\b[^>]*>(.*?)</${element}>`, 'gs'))]
  return bodies.map(([, body = '']) => `'sha256-${createHash('sha256').update(body).digest('base64')}'`).join(' ')
}
