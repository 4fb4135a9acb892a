import type { Command } from 'commander'
import { addBenchAttentionCommand } from './bench-attention'
import { addBenchGemmCommand } from './bench-gemm'
import { addBenchModelCommand } from './bench-model'
import { addBenchTuneCommand } from './bench-tune'
import type { Terminal } from './terminal'

export function addBenchCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('bench')
    .description('Benchmark a model, or its kernels')
    .addHelpText(
      'after',
      `
billfish bench DIRECTORY is billfish bench model DIRECTORY.

Examples:
  billfish bench ./Qwen2.5-7B-Instruct-GPTQ-Int4
  billfish bench gemm --shapes qwen2-72b --device cuda:0
  billfish bench attention --shapes qwen2-72b --device cuda:0`,
    )
  addBenchModelCommand(command, terminal)
  addBenchGemmCommand(command, terminal)
  addBenchAttentionCommand(command, terminal)
  addBenchTuneCommand(command, terminal)
}
