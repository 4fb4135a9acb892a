import { defineConfig } from 'vitest/config'

// Unit tests run one file at a time: some look at memory, deadlines or how long the event loop is held, and native addons
// share one pool of threads in a process. The goldens look at numbers alone, and the emulator leaves cores idle.
export default defineConfig({
  test: {
    globalSetup: 'test/support/require-emulator.ts',
    pool: 'forks',
    testTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'], maxWorkers: 1, sequence: { groupOrder: 0 } },
      },
      {
        extends: true,
        test: { name: 'goldens', include: ['test/goldens/**/*.test.ts'], maxWorkers: 2, sequence: { groupOrder: 1 } },
      },
    ],
  },
})
