/**
 * What computes the stages of a device: the CPU, from its memory (`cpu:N`) or the disk (`disk`), or a GPU (`cuda:N`),
 * which may be an emulated one (`emulated:N`).
 */
export function deviceKind(device: string): 'cpu' | 'gpu' {
  return /^(cuda|emulated):/.test(device) ? 'gpu' : 'cpu'
}
