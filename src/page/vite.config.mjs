// Builds the page into one file that holds its styles and its script: dist/page/index.html. To work on it, start a server on
// port 8000 (npm run demo's model does: node dist/cli/main.js serve examples/demo-model) and `npx vite src/page`.
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'
import { viteSingleFile } from 'vite-plugin-singlefile'
import { licensesOf } from '../../scripts/licenses.mjs'

const path = (name) => fileURLToPath(new URL(name, import.meta.url))

/** Adds the licenses of bundled packages, which copies of them must hold. */
const licenses = {
  name: 'licenses',
  transformIndexHtml: {
    order: 'post',
    handler: (html, { chunk }) => html + (chunk ? `<!--\n${licensesOf(chunk.moduleIds)}\n-->\n` : ''),
  },
}

export default defineConfig({
  root: path('.'),
  configFile: false,
  plugins: [licenses, viteSingleFile({ removeViteModuleLoader: true })],
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: { outDir: path('../../dist/page'), emptyOutDir: true, target: 'es2022', reportCompressedSize: false },
  server: { proxy: { '^/(v1|status.json)': 'http://127.0.0.1:8000' } },
  logLevel: 'warn',
})
