import type { Command } from 'commander'
import { downloadWithBar, type OutputOptions } from './checkpoint'
import { abortable, printJson, type Terminal } from './terminal'

interface Options extends OutputOptions {
  readonly revision?: string
  readonly cacheDir?: string
  readonly token?: string
}

export function addDownloadCommand(program: Command, terminal: Terminal): void {
  program
    .command('download')
    .description('Download a model from the Hugging Face Hub, and print its directory')
    .argument('<name>', "the model's name: OWNER/NAME, or OWNER/NAME@REVISION")
    .option('--revision <name>', 'a branch, a tag or a commit (default: main)')
    .option('--cache-dir <dir>', 'the cache (default: HF_HUB_CACHE, or ~/.cache/huggingface/hub)')
    .option('--token <token>', 'an access token for gated and private models (default: HF_TOKEN, or of hf auth login)')
    .option('--json', 'print JSON only')
    .option('--quiet', 'no progress bar')
    .addHelpText(
      'after',
      `
Only what billfish reads is downloaded, into the cache of Python's huggingface_hub. Ctrl-C keeps what has come, and the same
command goes on there. Other commands take such a name in place of a directory, and download it too.

Examples:
  billfish download Qwen/Qwen3-0.6B
  billfish download Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4 --cache-dir /models
  HF_ENDPOINT=https://hub.example.com billfish download Qwen/Qwen3-8B --revision refs/pr/1 --json`,
    )
    .action((name: string, options: Options) =>
      abortable(terminal, async (signal) => {
        const { revision, cacheDir, token } = options
        const directory = await downloadWithBar(terminal, name, { revision, cacheDir, token, signal }, options)
        if (options.json) printJson(terminal, { directory })
        else terminal.stdout.write(`${directory}\n`)
      }),
    )
}
