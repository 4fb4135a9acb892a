export interface IkSettings {
  readonly flashAttention: boolean
  readonly repack: boolean
}

export class IkLlamaBench {
  constructor(
    program: string,
    file: string,
    shape: { readonly prefill: number; readonly prompt: number; readonly decode: number },
    threads: number,
  )
  readonly settings: { readonly prefill?: IkSettings; readonly decode?: IkSettings }
  readonly version: string
  measure(method: 'prefill' | 'decode', settings?: IkSettings): number
  chooseSettings(): void
}
