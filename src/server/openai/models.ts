/** GET /v1/models, and one of them by its name. */
import type { ServedModels } from '../served-models'

export function listModels(models: ServedModels) {
  return { object: 'list', data: models.names.map((name) => describeModel(models, name)) }
}

/** @throws RequestError 404 */
export function describeModel(models: ServedModels, name: string) {
  const { model } = models.find(name)
  return {
    id: name,
    object: 'model',
    created: models.created,
    owned_by: 'billfish',
    root: name,
    parent: null,
    max_model_len: model.limits.maxModelLength,
  }
}
