// A seller of sessions written with the official SDK, on the Tempo chain at RPC: /paid is a forecast for
// 0.01 pathUSD, paid for in a session. Says where it listens on standard output, and stops with its
// standard input.
import { createServer } from 'node:http'
import { Mppx, Request, Store, tempo } from 'mppx/server'
import { createClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { tempoModerato } from 'viem/chains'

const { RPC, KEY, SECRET } = process.env
const currency = '0x20c0000000000000000000000000000000000000'
const account = privateKeyToAccount(KEY)
// Fees are paid in pathUSD; anvil's development accounts would otherwise pay them in ThetaUSD.
const chain = tempoModerato.extend({ feeToken: currency })
const client = createClient({ account, chain, transport: http(RPC) })
const mppx = Mppx.create({
  realm: 'localhost',
  secretKey: SECRET,
  methods: [
    tempo.session({
      account,
      currency,
      feeToken: currency,
      testnet: true,
      getClient: () => client,
      store: Store.memory(),
    }),
  ],
})

const sell = async (request) => {
  if (new URL(request.url).pathname !== '/paid') return new Response('No such forecast', { status: 404 })
  const offer = { amount: '0.01', unitType: 'request', suggestedDeposit: '0.1' }
  const charged = await mppx.session(offer)(request)
  if (charged.status === 402) return charged.challenge
  return charged.withReceipt(Response.json({ forecast: 'sunny' }))
}

const server = createServer(Request.toNodeListener(sell))
server.listen(0, '127.0.0.1', () => console.log(`http://localhost:${server.address().port}`))
process.stdin.resume().on('end', () => process.exit(0))
