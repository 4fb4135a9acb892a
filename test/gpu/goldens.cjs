// Runs the golden models on given device maps, as test/goldens does, without a test runner: for machines that have
// nothing but a GPU driver (scripts/gpu-bundle.mjs). Prints one line a check, then "N passed, N failed"; with
// `--json FILE` writes what it measured.
//
//   node test/gpu/goldens.cjs [--devices cuda:0,cpu] [--models NAME,...] [--json FILE]
const { readdirSync, readFileSync, writeFileSync } = require('node:fs')
const { join, resolve } = require('node:path')
const { parseArgs } = require('node:util')
const { devices, layerSplit, loadModel } = require('../../dist/index.js')
const { difference, golden } = require('../support/goldens.cjs')

/** As test/goldens: logits may be off by so many times what the same model is off in the same 16-bit type elsewhere. */
const factor = 3

const fixtures = resolve(__dirname, '../fixtures/models')

/** The maps to try: one device, two stages on it, a stage on it beside one on the CPU, and its layers' experts there. */
function maps(device, { layers, names, hasExperts }) {
  const experts = { '': device, 'model.layers.*.mlp.experts': 'cpu' }
  return {
    ...(hasExperts ? { [`${device}, experts on the CPU`]: experts } : {}),
    [device]: device,
    [`a layer on the CPU between two stages on ${device}`]: { '': device, [`${names.layers}.${layers >> 1}`]: 'cpu' },
    [`${device} and cpu`]: layerSplit([device, 'cpu'], layers, names),
    [`cpu and ${device}`]: layerSplit(['cpu', device], layers, names),
  }
}

function fixture(name) {
  const directory = join(fixtures, name)
  const config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'))
  const old = config.model_type === 'qwen'
  const names = {
    embedding: old ? 'transformer.wte' : 'model.embed_tokens',
    layers: old ? 'transformer.h' : 'model.layers',
    norm: old ? 'transformer.ln_f' : 'model.norm',
    head: 'lm_head',
  }
  const text = config.text_config ?? config
  const hasExperts = text.num_experts > 0
  // The 16-bit type that a device computes in is the checkpoint's; of experts and recurrent layers fp16, as in test/goldens.
  const isFine = hasExperts || text.layer_types?.includes('linear_attention')
  const isBfloat = !isFine && (text.torch_dtype ?? text.dtype ?? config.torch_dtype ?? config.dtype) === 'bfloat16'
  const [type, dtype] = isBfloat ? ['bf16', 'bfloat16'] : ['fp16', 'float16']
  return { directory, ...golden(directory), names, layers: text.num_hidden_layers, hasExperts, type, dtype }
}

/** Returns the largest errors. @throws Error at the first output that is wrong */
async function check(expected, deviceMap) {
  const model = await loadModel(expected.directory, { deviceMap, dtype: expected.dtype, maxModelLength: 64 })
  try {
    const errors = {}
    for (const prompt of ['p7', 'p33']) {
      const ids = expected.prompts[prompt]
      const { logits } = await model.forward(ids)
      const off = difference(logits, expected.tensor(`${prompt}.logits`))
      const same = expected.measured[expected.type][prompt]
      errors[prompt] = { ...off, bound: factor * same.logits_max_abs }
      if (!(off.max <= factor * same.logits_max_abs)) throw new Error(`${prompt}: logits are off by ${off.max}`)
      if (!(off.mean <= factor * same.logits_mean_abs)) throw new Error(`${prompt}: off by ${off.mean} on average`)
      const { tokenIds } = await model.generate(ids, { maxNewTokens: 24, temperature: 0, ignoreEos: true }).result()
      const wanted = expected.greedy[prompt]
      const first = tokenIds.findIndex((token, i) => token !== wanted[i])
      if (first !== -1 || tokenIds.length !== wanted.length) throw new Error(`${prompt}: token ${first} is another one`)
    }
    return errors
  } finally {
    await model.dispose()
  }
}

async function main() {
  const { values } = parseArgs({
    options: { devices: { type: 'string' }, models: { type: 'string' }, json: { type: 'string' } },
  })
  const found = devices().devices.filter(({ kind }) => kind === 'cuda')
  const wanted = values.devices?.split(',') ?? found.map(({ device }) => device)
  if (wanted.length === 0) {
    console.log(`skipped: no CUDA device (${devices().cuda.reason})\n0 passed, 0 failed`)
    return
  }
  const names = values.models?.split(',') ?? readdirSync(fixtures).filter((name) => !name.includes('-vl-'))
  const results = []
  for (const name of names) {
    const expected = fixture(name)
    for (const device of wanted) {
      for (const [what, deviceMap] of Object.entries(maps(device, expected))) {
        const result = { name, what, error: undefined, errors: undefined }
        try {
          result.errors = await check(expected, deviceMap)
        } catch (error) {
          result.error = `${error.code ?? ''} ${error.message}`.trim()
        }
        results.push(result)
        console.log(
          `${result.error ? 'FAILED ' : 'ok     '} ${name}, ${what}${result.error ? `: ${result.error}` : ''}`,
        )
      }
    }
  }
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ devices: found, results }, null, 2)}\n`)
  const failed = results.filter(({ error }) => error).length
  console.log(`${results.length - failed} passed, ${failed} failed`)
  process.exitCode = failed > 0 ? 1 : 0
}
main()
