import { defineConfig } from 'vitest/config'

/** A folder of tests; `groupOrder`: groups run one after the other. */
const project = (name: string, maxWorkers: number, groupOrder: number) => ({
  extends: true as const,
  test: { name, include: [`test/${name}/**/*.test.ts`], maxWorkers, sequence: { groupOrder } },
})

export default defineConfig({
  test: {
    globalSetup: ['test/support/require-emulator.ts', 'test/support/temporary-files.ts'],
    pool: 'forks',
    testTimeout: 60_000,
    projects: [
      // They look at deadlines, or how long the event loop is held: one file at a time.
      project('timed', 1, 0),
      project('unit', 2, 1),
      project('goldens', 2, 1),
    ],
  },
})
