// A seller of a subscription written with the official SDK, on the Tempo chain at RPC: /paid is a forecast, for
// 0.01 pathUSD a day. Says where it listens on standard output, and stops with its standard input.
//
// Since 0.9.3 the SDK wants what it is shown bound to the challenge with a witness (TIP-1053), which anvil's
// chain cannot read; this is the version before.
import { createServer } from 'node:http'
import { Mppx, Request, Store, tempo } from 'mppx-subscriptions/server'
import { createClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { tempoModerato } from 'viem/chains'

const { RPC, KEY, SECRET } = process.env
const currency = '0x20c0000000000000000000000000000000000000'
const account = privateKeyToAccount(KEY)
// Fees are paid in pathUSD; anvil's development accounts would otherwise pay them in ThetaUSD.
const chain = tempoModerato.extend({ feeToken: currency })
const client = createClient({ account, chain, transport: http(RPC) })
const ends = new Date(Math.floor(Date.now() / 1000 + 5 * 86_400) * 1000).toISOString()
const mppx = Mppx.create({
  realm: 'localhost',
  secretKey: SECRET,
  methods: [
    tempo.subscription({
      amount: '0.01',
      account,
      feePayer: account,
      currency,
      chainId: 42431,
      testnet: true,
      periodCount: '1',
      periodUnit: 'day',
      recipient: account.address,
      // Who asks again is known otherwise: here, nobody else asks.
      resolve: () => ({ key: 'the only reader' }),
      subscriptionExpires: ends,
      externalId: 'forecasts',
      getClient: () => client,
      store: Store.memory(),
    }),
  ],
})

const sell = async (request) => {
  if (new URL(request.url).pathname !== '/paid') return new Response('No such forecast', { status: 404 })
  const paid = await mppx.tempo.subscription({})(request)
  if (paid.status === 402) return paid.challenge
  return paid.withReceipt(Response.json({ forecast: 'sunny' }))
}

const server = createServer(Request.toNodeListener(sell))
server.listen(0, '127.0.0.1', () => console.log(`http://localhost:${server.address().port}`))
process.stdin.resume().on('end', () => process.exit(0))
