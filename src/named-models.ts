import { BillfishError } from './common/errors'
import { Model } from './model'
import { invalidOption } from './options/printed'
import { guarded, isRecord } from './options/snapshot'

/**
 * One model, which is called `default`, or several by their names. The first one is taken where none is named. Whoever
 * loaded them disposes of them.
 */
export type Models = Model | Readonly<Record<string, Model>>

/** @throws BillfishError INVALID_OPTION */
export function readModels(given: unknown): ReadonlyMap<string, Model> {
  if (given instanceof Model) return new Map([['default', given]])
  if (!guarded('models', () => isRecord(given))) {
    throw invalidOption('models', given, 'a model that loadModel() returned, or an object of names and such models')
  }
  const models = new Map(guarded('models', () => Object.entries(given as Record<string, unknown>)))
  if (models.size === 0) throw new BillfishError('INVALID_OPTION', 'models is empty; give at least one model.')
  for (const [name, model] of models) {
    if (name === '') throw new BillfishError('INVALID_OPTION', 'models has an empty name; name every model.')
    if (!(model instanceof Model)) throw invalidOption(`models.${name}`, model, 'a model that loadModel() returned')
  }
  return models as ReadonlyMap<string, Model>
}
