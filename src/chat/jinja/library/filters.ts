import type { Filter } from './filter'
import { higherOrderFilters } from './higher-order-filters'
import { NUMBER_FILTERS } from './number-filters'
import { PPRINT } from './pprint'
import { SEQUENCE_FILTERS } from './sequence-filters'
import { createTests, type Test } from './tests'
import { TEXT_FILTERS } from './text-filters'

const filters = new Map<string, Filter>([...TEXT_FILTERS, ...NUMBER_FILTERS, ...SEQUENCE_FILTERS, PPRINT])

/** The tests of Jinja2. */
export const TESTS: ReadonlyMap<string, Test> = createTests(filters)

// Filters such as `map` apply others by name, and the test `filter` looks all of them up.
for (const [name, filter] of higherOrderFilters({ filters, tests: TESTS })) filters.set(name, filter)

/** The filters of Jinja2, with `tojson` as in transformers. */
export const FILTERS: ReadonlyMap<string, Filter> = filters
