// Compiles the contracts of this folder with the compiler from npm that is pinned in interop/npm, and
// prints { NAME: { creation, runtime } } in hexadecimal. A test of interop/ compares it with artifacts/;
// `node contracts/compile.mjs PEERS --write` writes them, where PEERS is the folder with node_modules.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const [peers, write] = process.argv.slice(2)
const here = dirname(fileURLToPath(import.meta.url))
const solc = createRequire(join(peers, 'node_modules/'))('solc')

const sources = {}
for (const file of readdirSync(join(here, 'src')))
  sources[file] = { content: readFileSync(join(here, 'src', file), 'utf8') }

const output = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: 'Solidity',
      sources,
      settings: {
        // What every chain of the last years runs.
        evmVersion: 'shanghai',
        optimizer: { enabled: true, runs: 200 },
        // A quarter less code, which chains charge by the byte.
        viaIR: true,
        // Comments and paths leave no trace in the code.
        metadata: { appendCBOR: false, bytecodeHash: 'none' },
        outputSelection: { '*': { '*': ['evm.bytecode.object', 'evm.deployedBytecode.object'] } },
      },
    }),
  ),
)
const errors = (output.errors ?? []).filter((it) => it.severity === 'error' || it.severity === 'warning')
if (errors.length) throw new Error(errors.map((it) => it.formattedMessage).join('\n'))

const compiled = {}
for (const contracts of Object.values(output.contracts))
  for (const [name, { evm }] of Object.entries(contracts))
    if (evm.bytecode.object)
      compiled[name] = { creation: evm.bytecode.object, runtime: evm.deployedBytecode.object }

if (write === '--write')
  for (const [name, code] of Object.entries(compiled))
    writeFileSync(join(here, 'artifacts', `${name}.json`), `${JSON.stringify(code, null, 2)}\n`)
else console.log(JSON.stringify(compiled))
