// A buyer written with the official SDK: pays each URL once, with the account of KEY on the Tempo
// chain at RPC, in the mode named first ('pull' or 'push'). Says a line of JSON for each URL.
import { Receipt } from 'mppx'
import { Mppx, tempo } from 'mppx/client'
import { createClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { tempoModerato } from 'viem/chains'

const [mode, ...urls] = process.argv.slice(2)
// Fees are paid in pathUSD; anvil's development accounts would otherwise pay them in ThetaUSD.
const chain = tempoModerato.extend({ feeToken: '0x20c0000000000000000000000000000000000000' })
const client = createClient({ chain, transport: http(process.env.RPC) })
const mppx = Mppx.create({
  polyfill: false,
  methods: [
    tempo.charge({
      account: privateKeyToAccount(process.env.KEY),
      getClient: () => client,
      // A proof has no mode, and is given in either.
      mode,
    }),
  ],
})

const buy = async (url) => {
  try {
    const response = await mppx.fetch(url)
    const receipt = response.headers.has('payment-receipt') ? Receipt.fromResponse(response) : null
    return { status: response.status, body: await response.text(), receipt }
  } catch (error) {
    return { error: [error.message, error.cause?.message].filter(Boolean).join(': ') }
  }
}

for (const url of urls) console.log(JSON.stringify(await buy(url)))
