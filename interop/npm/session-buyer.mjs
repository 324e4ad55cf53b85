// A buyer of sessions of version 1 written with the official SDK: fetches URL as often as named, with the
// account of KEY on the Tempo chain at RPC, and closes. Says a line of JSON for each answer, and one for the
// close.
import { sessionLegacyManager } from 'mppx/client'
import { createClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { tempoModerato } from 'viem/chains'

const [url, times] = process.argv.slice(2)
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

for (let time = 0; time < Number(times); time++) {
  const response = await session.fetch(`${url}?time=${time}`)
  const { status, receipt, cumulative } = response
  say({ status, body: await response.text(), receipt, cumulative })
}
say({ closed: await session.close() })
