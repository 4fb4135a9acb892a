import { defineConfig } from 'vitest/config'

// Native addons share one process-wide thread pool: one worker at a time keeps timings and memory checks meaningful.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/support/require-emulator.ts',
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 60_000,
  },
})
