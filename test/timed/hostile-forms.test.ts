// Forms of answers that are made to take long end within a second, and let other events run meanwhile.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { expect, test } from 'vitest'
import { compileStructuredOutput } from '../../src/chat/structured/compile'
import type { StructuredOutput } from '../../src/chat/structured/spec'
import { hostileForms } from '../support/hostile-forms'

test.each(Object.keys(hostileForms))('%s', async (name) => {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const begun = performance.now()
  const form = hostileForms[name] as StructuredOutput
  const outcome = await compileStructuredOutput(form).catch((error: unknown) => error)
  const spent = performance.now() - begun
  delay.disable()
  expect(spent).toBeLessThan(1000)
  expect(delay.max / 1e6).toBeLessThan(150)
  if (outcome instanceof Error) expect(outcome).toMatchObject({ code: 'INVALID_OPTION' })
})
