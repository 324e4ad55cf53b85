// A buyer of a subscription written with the official SDK: fetches URL as often as named, with the account of
// KEY on the Tempo chain at RPC. Says a line of JSON for each answer.
//
// Since 0.9.3 the SDK binds what it signs to the challenge with a witness (TIP-1053), which anvil's chain
// cannot read; this is the version before.
import { Mppx, tempo } from 'mppx-subscriptions/client'
import { createClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { tempoModerato } from 'viem/chains'

const [url, times] = process.argv.slice(2)
const account = privateKeyToAccount(process.env.KEY)
const client = createClient({ account, chain: tempoModerato, transport: http(process.env.RPC) })
const mppx = Mppx.create({
  methods: [tempo.subscription({ account, getClient: () => client })],
  polyfill: false,
})

for (let time = 0; time < Number(times); time++) {
  const response = await mppx.fetch(`${url}?time=${time}`)
  const receipt = response.headers.get('payment-receipt')
  const read = receipt && JSON.parse(Buffer.from(receipt, 'base64url').toString())
  console.log(JSON.stringify({ status: response.status, body: await response.text(), receipt: read }))
}
