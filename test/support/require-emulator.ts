import { addon } from '../../src/native/addon'

/** Refuses to run the tests with an addon without the emulator, instead of failing in many of them. */
export default function requireEmulator(): void {
  const { noEmulator } = addon()
  if (!noEmulator) return
  throw new Error(`Tests need the emulator, but ${noEmulator} That is: BILLFISH_EMULATOR=on npm run build:native`)
}
