import { APPLYING_FILTERS } from './applying-filters'
import type { Filter } from './filter'
import { NUMBER_FILTERS } from './number-filters'
import { PPRINT } from './pprint'
import { SEQUENCE_FILTERS } from './sequence-filters'
import { TEXT_FILTERS } from './text-filters'

/** The filters of Jinja2, with transformers' own `tojson`. */
export const FILTERS: ReadonlyMap<string, Filter> = new Map([
  ...TEXT_FILTERS,
  ...NUMBER_FILTERS,
  ...SEQUENCE_FILTERS,
  ...APPLYING_FILTERS,
  PPRINT,
])
