// What stands between a peer and anvil at RPC, which lacks some of what Tempo's own nodes answer:
// adds `tempo_simulateV1` and `tempo_fundAddress`, and a time limit that may be named with a
// transaction; and estimates transactions of several calls, of which anvil says the same whatever they
// do, and those that make a key known, of which it leaves that out. Says where it listens on standard output, and stops with its standard input.
import { createServer } from 'node:http'

const headers = { 'content-type': 'application/json' }

const pass = async (call) => {
  const body = JSON.stringify(call)
  const answer = await fetch(process.env.RPC, { method: 'POST', headers, body })
  return answer.json()
}

const ask = async (method, params) => {
  const { result, error } = await pass({ jsonrpc: '2.0', id: 1, method, params })
  if (error) throw error
  return result
}

// A transaction's calls, of which the last stands beside the list of the others. Each is tried by
// itself, on the state that the one before it did not change.
const simulated = async ({ from, calls = [], to, data, input }, block) => {
  try {
    let returnData = '0x'
    for (const call of [...calls, { to, data, input }])
      returnData = await ask('eth_call', [{ from, to: call.to, data: call.input ?? call.data }, block])
    return { status: '0x1', returnData, gasUsed: '0x0', logs: [] }
  } catch (error) {
    return { status: '0x0', returnData: '0x', gasUsed: '0x0', logs: [], error }
  }
}

const simulate = async ([{ blockStateCalls }, block = 'latest']) => {
  const blocks = []
  for (const { calls = [] } of blockStateCalls)
    blocks.push({ calls: await Promise.all(calls.map((call) => simulated(call, block))) })
  return { blocks }
}

// A thousand of each of the four tokens, from the last development account.
const fund = async ([address]) => {
  const from = (await ask('eth_accounts', [])).at(-1)
  const word = (hex) => hex.replace('0x', '').toLowerCase().padStart(64, '0')
  const data = '0xa9059cbb' + word(address) + word((1_000_000_000).toString(16))
  const hashes = []
  for (const token of [0, 1, 2, 3]) {
    const to = '0x20c000000000000000000000000000000000000' + token
    hashes.push(await ask('eth_sendTransaction', [{ from, to, data }]))
  }
  return hashes
}

// What it burns at most to make a key known that may do two things, and to charge with it: 4,800,000.
const KEY_MADE_KNOWN = '0x493e00'

// What the calls of a transaction burn one after the other, at most.
const estimate = async (params) => {
  if (params[0].keyAuthorization) return KEY_MADE_KNOWN
  const [{ from, calls = [], to, data, input }] = params
  const all = to ? [...calls, { to, data, input }] : calls
  if (all.length < 2) return ask('eth_estimateGas', params)
  const tried = all.map((it) => ({ from, to: it.to, input: it.input ?? it.data }))
  const [block] = await ask('eth_simulateV1', [{ blockStateCalls: [{ calls: tried }] }, 'latest'])
  const used = block.calls.reduce((sum, it) => sum + BigInt(it.gasUsed), 0n)
  return `0x${used.toString(16)}`
}

const fill = async (params) => {
  const filled = await ask('eth_fillTransaction', params)
  if ((params[0].calls ?? []).length > 1 || params[0].keyAuthorization) filled.tx.gas = await estimate(params)
  return filled
}

const own = {
  eth_estimateGas: estimate,
  eth_fillTransaction: fill,
  tempo_simulateV1: simulate,
  tempo_fundAddress: fund,
}

const answer = async (call) => {
  const { id, method, params } = call
  try {
    if (own[method]) return { jsonrpc: '2.0', id, result: await own[method](params) }
    if (method !== 'eth_sendRawTransactionSync') return await pass(call)
    return await pass({ ...call, params: params.slice(0, 1) })
  } catch (error) {
    return { jsonrpc: '2.0', id, error: { code: error.code ?? -32603, message: error.message } }
  }
}

const server = createServer(async (request, response) => {
  const call = JSON.parse(Buffer.concat(await request.toArray()))
  const answered = Array.isArray(call) ? await Promise.all(call.map(answer)) : await answer(call)
  response.writeHead(200, headers).end(JSON.stringify(answered))
})
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
process.stdin.resume().on('end', () => process.exit(0))
