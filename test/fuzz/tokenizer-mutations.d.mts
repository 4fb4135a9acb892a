/** tokenizer.json and tokenizer_config.json, with a small vocabulary of the one in the directory. */
export function smallTokenizer(directory: string): Map<string, string>
/** tokenizer.json, tokenizer_config.json and generation_config.json, with a small vocabulary of the one in the directory. */
export function filesBesideWeights(directory: string): Map<string, string>
