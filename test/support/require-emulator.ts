import { addon } from '../../src/native/addon'

/** Refuses to run tests with an addon that many of them cannot do with, before each of these fails on its own. */
export default function requireEmulator(): void {
  const { noEmulator } = addon()
  if (!noEmulator) return
  throw new Error(`Tests need the emulator, but ${noEmulator} That is: BILLFISH_EMULATOR=on npm run build:native`)
}
