/**
 * A JSON schema of what structured output supports.
 * @param {import('../support/random.cjs').Random} random
 * @returns {object | true}
 */
export function randomSchema(random, depth = 0) {
  const pick = (items) => random.pick(items)
  const whole = (least, most) => least + random.below(most - least + 1)
  const maybe = (probability) => random.chance(probability)
  const name = () => pick(['a', 'b', 'name', 'kind', 'value', 'items', 'x y', 'é', 'a"b', '北', 'constructor'])

  const leaves = [
    () => ({
      type: 'string',
      ...(maybe(0.3) && { minLength: whole(0, 3) }),
      ...(maybe(0.4) && { maxLength: whole(3, 70) }),
    }),
    () => ({
      type: 'string',
      pattern: pick(['^[a-c]+$', '^\\d{2,4}-\\d$', '[A-Z]', 'a|b', '^(ab?|c)*$', '^[^"\\\\]{1,5}$', '^é.{0,3}']),
    }),
    () => ({
      type: 'string',
      format: pick(['date', 'date-time', 'time', 'uuid', 'ipv4', 'email', 'hostname', 'ipv6', 'uri', 'duration']),
    }),
    () => integer(),
    () => number(),
    () => ({ type: pick(['boolean', 'null', 'integer', 'number']) }),
    () => ({ type: ['string', 'null'] }),
    () => ({ enum: [pick(['x', 'y"', 'ü']), whole(-5, 500), null, true, { k: [1] }] }),
    () => ({ const: pick(['c', 7, null, [1, 'b'], 1.5]) }),
  ]
  const integer = () => {
    const low = whole(-200, 200)
    return {
      type: 'integer',
      ...(maybe(0.8) && { minimum: low }),
      ...(maybe(0.8) && { maximum: low + whole(0, 3000) }),
    }
  }
  const number = () => {
    const low = whole(-500, 500) / pick([1, 4, 10, 100])
    const high = low + whole(1, 400) / pick([1, 8, 10])
    return {
      type: 'number',
      ...(maybe(0.7) && { [pick(['minimum', 'exclusiveMinimum'])]: low }),
      ...(maybe(0.7) && { [pick(['maximum', 'exclusiveMaximum'])]: high }),
    }
  }
  const object = (isOpen = maybe(0.5)) => {
    const names = [...new Set(Array.from({ length: whole(0, 5) }, name))]
    return {
      type: 'object',
      properties: Object.fromEntries(names.map((key) => [key, randomSchema(random, depth + 1)])),
      required: names.filter(() => maybe(0.5)),
      ...(isOpen && { additionalProperties: maybe(0.5) ? false : randomSchema(random, depth + 2) }),
    }
  }
  const array = () => ({
    type: 'array',
    items: randomSchema(random, depth + 1),
    ...(maybe(0.4) && { minItems: whole(0, 2) }),
    ...(maybe(0.5) && { maxItems: whole(2, 5) }),
    ...(maybe(0.2) && { prefixItems: [randomSchema(random, depth + 1)] }),
  })
  const combined = [
    () => ({ anyOf: [randomSchema(random, depth + 1), randomSchema(random, depth + 1)] }),
    () => ({ oneOf: [{ type: 'string' }, integer(), { type: 'array', items: { type: 'boolean' } }] }),
    () => ({
      allOf: [object(false), { type: 'object', properties: { more: { type: 'integer' } }, required: ['more'] }],
    }),
    () => ({
      $defs: {
        node: {
          type: 'object',
          properties: { value: integer(), next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
          required: ['value', 'next'],
        },
      },
      ...(depth === 0 ? { $ref: '#/$defs/node' } : { type: 'integer' }),
    }),
  ]
  if (depth >= 3 || maybe(0.3)) return pick(leaves)()
  if (maybe(0.05)) return true
  return maybe(0.5) ? object() : maybe(0.5) ? array() : pick(combined)()
}
