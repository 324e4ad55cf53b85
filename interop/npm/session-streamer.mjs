// A buyer of a stream written with the official SDK: pays for the events at URL as they come, in a session of
// version 1, with the account of KEY on the Tempo chain at RPC, and closes. Says a line of JSON for each event,
// one for the last receipt, and one for the close.
import { sessionLegacyManager } from 'mppx/client'
import { createClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { tempoModerato } from 'viem/chains'

const [url] = process.argv.slice(2)
// Fees are paid in pathUSD; anvil's development accounts would otherwise pay them in ThetaUSD.
const chain = tempoModerato.extend({ feeToken: '0x20c0000000000000000000000000000000000000' })
const client = createClient({ chain, transport: http(process.env.RPC) })
const session = sessionLegacyManager({
  account: privateKeyToAccount(process.env.KEY),
  getClient: () => client,
  maxDeposit: '0.05',
  allowCustomEscrow: true,
})
const say = (what) =>
  console.log(JSON.stringify(what, (_, it) => (typeof it === 'bigint' ? it.toString() : it)))

let last
for await (const event of await session.sse(url, { onReceipt: (receipt) => (last = receipt) }))
  say({ event })
say({ receipt: last, cumulative: session.cumulative })
say({ closed: await session.close() })
