declare module 'node-gyp-build' {
  /** Requires the addon that fits this platform: build/Release, build/Debug, then prebuilds/ of `directory`. */
  function load(directory: string): unknown
  namespace load {
    /** The path that `load` would require. Throws when there is none. */
    function resolve(directory: string): string
  }
  export = load
}
