import type { ScaleBlock } from '../checkpoint/types'
import type { ConfigFields } from './fields'

/** The block with these sides: outputs and inputs. @throws BillfishError INVALID_CHECKPOINT */
export function blockOf(fields: ConfigFields, name: string, sides: unknown): ScaleBlock {
  const isSide = (side: unknown): side is number => Number.isInteger(side) && Number(side) > 0 && Number(side) < 2 ** 31
  if (!Array.isArray(sides) || sides.length !== 2 || !isSide(sides[0]) || !isSide(sides[1])) {
    throw fields.invalid(name, sides, 'two positive numbers, such as [128, 128]')
  }
  return { rows: sides[0], groupSize: sides[1] }
}
