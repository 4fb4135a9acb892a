import type { Filter } from './filter'
import { HIGHER_ORDER_FILTERS } from './higher-order-filters'
import { NUMBER_FILTERS } from './number-filters'
import { PPRINT } from './pprint'
import { SEQUENCE_FILTERS } from './sequence-filters'
import { TEXT_FILTERS } from './text-filters'

/** The filters of Jinja2, with transformers' own `tojson`. */
export const FILTERS: ReadonlyMap<string, Filter> = new Map([
  ...TEXT_FILTERS,
  ...NUMBER_FILTERS,
  ...SEQUENCE_FILTERS,
  ...HIGHER_ORDER_FILTERS,
  PPRINT,
])
