/** Options as vLLM, transformers and llama.cpp spell them: taken where billfish has the same, and else explained. */
import { type Command, Option } from 'commander'

/** An alias of an option, hidden from `--help`; the one given last counts. */
class OtherSpelling extends Option {
  readonly #attribute: string

  constructor(flag: string, of: Option) {
    super(`${flag}${/ [<[].*$/.exec(of.flags)?.[0] ?? ''}`, `the same as ${of.long}`)
    this.#attribute = of.attributeName()
    this.negate = of.negate
    if (of.parseArg) this.parseArg = of.parseArg
    this.hideHelp()
  }

  override attributeName(): string {
    return this.#attribute
  }
}

const SPELLINGS: Readonly<Record<string, readonly string[]>> = {
  '--context': ['-c', '--ctx-size', '--n-ctx', '--max-model-len', '--max-model-length', '--max-seq-len'],
  '--max-new-tokens': ['--max-tokens', '--n-predict', '--predict', '--max-completion-tokens'],
  '--sequences': ['--max-num-seqs', '--parallel'],
  '--max-batch-tokens': ['--max-num-batched-tokens', '--ubatch-size', '--batch-size-tokens'],
  '--temperature': ['--temp'],
  '--repetition-penalty': ['--repeat-penalty'],
  '--tensor-parallel-size': ['--tp', '--tp-size'],
  '--pipeline-parallel-size': ['--pp', '--pp-size'],
  '--gpu-memory-utilization': ['--mem-fraction-static'],
  '--chat-template': ['--chat-template-file'],
  '--log-requests': ['--enable-log-requests'],
  '--no-log-requests': ['--disable-log-requests', '--no-enable-log-requests', '--disable-uvicorn-access-log'],
  '--expert-parallel': ['--enable-expert-parallel'],
  '--prefix-cache': ['--enable-prefix-caching', '--cache-prompt'],
  '--no-prefix-cache': ['--no-enable-prefix-caching', '--no-cache-prompt'],
  '--offload-directory': ['--offload-folder', '--offload-dir'],
  '--system': ['--system-prompt', '--sys', '--system-message'],
  '--stop': ['--stop-string', '--reverse-prompt'],
  '--dtype': ['--torch-dtype'],
}

/** Adds the other spellings of the options that the command has. */
export function addOtherSpellings(command: Command): void {
  for (const option of [...command.options]) {
    for (const flag of SPELLINGS[option.long ?? ''] ?? []) {
      if (!isTaken(command, flag)) command.addOption(new OtherSpelling(flag, option))
    }
  }
}

function isTaken(command: Command, flag: string): boolean {
  return command.options.some(({ short, long }) => short === flag || long === flag)
}

const PLACEMENT = 'say where layers go with --device-map, --devices and --max-memory'
const HINTS: readonly (readonly [names: readonly string[], hint: string])[] = [
  [['--n-gpu-layers', '--gpu-layers', '-ngl', '--ngl', '--tensor-split', '--split-mode', '--main-gpu'], PLACEMENT],
  [
    ['--n-cpu-moe', '-ncmoe', '--cpu-moe', '-cmoe', '--override-tensor', '-ot'],
    'say where experts go with --device-map: {"": "cuda:0", "model.layers.*.mlp.experts": "cpu"}',
  ],
  [['-tp'], 'use --tensor-parallel-size'],
  [['-pp'], 'use --pipeline-parallel-size'],
  [['-q'], 'the format is read from the checkpoint'],
  [['--tokenizer'], "the tokenizer is the checkpoint's"],
  [['--seed'], 'requests have a field seed each'],
  [['--block-size'], 'the KV cache has blocks of 32 tokens'],
  [['--uds'], 'listen on --host 127.0.0.1 and put a proxy before it'],
  [['--ssl-keyfile', '--ssl-certfile', '--root-path'], 'put a proxy that speaks TLS, or cuts paths, before the server'],
  [
    ['--generation-config', '--override-generation-config'],
    "defaults are those of the checkpoint's generation_config.json",
  ],
  [['--limit-mm-per-prompt', '--allowed-media-domains', '--allowed-local-media-path'], 'requests have no images'],
  [['--chat-template-content-format'], 'templates always get texts'],
  [['--trust-request-chat-template'], "a request's template is never used; give the server one with --chat-template"],
  [['--max-log-len', '--log-config'], 'prompts and answers are never logged'],
  [['--enable-force-include-usage'], 'a request asks for it with stream_options: {"include_usage": true}'],
  [['--cpu-offload-gb', '--swap-space'], "add the CPU to --devices, or use device 'disk' in --device-map"],
  [['--quantization', '--load-format', '--load-in-4bit', '--load-in-8bit'], 'the format is read from the checkpoint'],
  [['--revision'], 'name it behind the model: OWNER/NAME@REVISION'],
  [['--hf-token', '--token'], 'set HF_TOKEN'],
  [['--download-dir', '--cache-dir'], 'HF_HUB_CACHE names the cache of the Hub'],
  [['--trust-remote-code'], "billfish runs no checkpoint's code; leave it out"],
  [['--do-sample'], 'use --temperature: 0 is greedy, more samples'],
  [['--num-beams'], 'there is no beam search'],
  [['--threads', '-t', '--n-threads'], 'all cores are used; BILLFISH_THREADS sets another number'],
  [['--enforce-eager'], 'BILLFISH_CUDA_GRAPHS=off runs without CUDA graphs'],
  [['--batch-size', '-b'], 'use --max-batch-tokens for tokens a step, --sequences for sequences at a time'],
  [['--kv-cache-dtype', '--cache-type-k', '--cache-type-v'], 'the KV cache has 16 bits, or 32 with --dtype float32'],
  [['--disable-radix-cache'], 'use --no-prefix-cache'],
  [
    ['--model-draft', '-md', '--draft-model', '--speculative-model', '--draft', '--spec-type'],
    'use --speculative-config: drafts are found in the prompt, not by a second model',
  ],
  [['--chat-template-kwargs'], 'use --variable name=value'],
  [['--model', '-m'], 'the checkpoint directory is an argument: billfish generate DIRECTORY'],
  [['--file', '-f'], 'pipe the prompt in: billfish generate DIRECTORY < FILE'],
  [['--interactive', '-i', '-cnv', '--conversation'], 'use billfish chat'],
  [['--prompt', '-p'], 'the prompt is an argument: billfish generate DIRECTORY "PROMPT"'],
]

/**
 * Makes the error for an option known from other programs say what to use instead.
 * @param argv the command line, in which `-ngl` still is what Commander has read as `-n gl`
 */
export function explainUnknownOptions(command: Command, argv: readonly string[]): void {
  command.configureOutput({
    outputError(text, write) {
      const [, unknown] = /unknown option '([^']*)'/.exec(text) ?? []
      const [, letters] = /argument '([^']*)' is invalid/.exec(text) ?? []
      const clustered = argv.find((word) => /^-\w{2,}$/.test(word) && word.slice(2) === letters)
      const hint = hintFor(command, unknown ?? clustered ?? '')
      write(hint === undefined ? text : `error: ${unknown ?? clustered}: ${hint}\n`)
    },
  })
}

function hintFor(command: Command, flag: string): string | undefined {
  const [name = flag] = flag.split('=')
  if (/^-[^a-z]/i.test(name) && !name.startsWith('--'))
    return 'a text that begins with a dash goes behind --prompt= or --'
  const dashed = name.replace(/(?<=\w)_/g, '-').replace(/(?<=[a-z])[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  if (dashed !== name && isTaken(command, dashed)) return `it is spelled ${dashed}`
  return HINTS.find(([names]) => names.includes(dashed))?.[1]
}
