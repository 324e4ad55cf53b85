// A seller written with the official SDK, on the Tempo chain at RPC: /paid, /zero, /sponsored,
// /split and /push, each a forecast for pathUSD. Says where it listens on standard output, and
// stops with its standard input.
import { createServer } from 'node:http'
import { Mppx, Request, Store, tempo } from 'mppx/server'
import { createClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { tempoModerato } from 'viem/chains'

const { RPC, RECIPIENT, SECRET, SPONSOR_KEY, SPLIT_A, SPLIT_B } = process.env
const client = createClient({ chain: tempoModerato, transport: http(RPC) })
const mppx = Mppx.create({
  realm: 'localhost',
  secretKey: SECRET,
  methods: [
    tempo.charge({
      currency: '0x20c0000000000000000000000000000000000000',
      recipient: RECIPIENT,
      testnet: true,
      getClient: () => client,
      // Proofs are accepted once only where there is a store.
      store: Store.memory(),
    }),
  ],
})

// What each path asks for; only /sponsored and /split read the environment further.
const offers = {
  '/paid': () => ({ amount: '0.01' }),
  '/zero': () => ({ amount: '0' }),
  '/sponsored': () => ({ amount: '0.01', feePayer: privateKeyToAccount(SPONSOR_KEY) }),
  '/split': () => ({
    amount: '0.01',
    splits: [
      { amount: '0.002', recipient: SPLIT_A },
      { amount: '0.001', recipient: SPLIT_B },
    ],
  }),
  '/push': () => ({ amount: '0.01', supportedModes: ['push'] }),
}

const sell = async (request) => {
  const offer = offers[new URL(request.url).pathname]
  if (!offer) return new Response('No such forecast', { status: 404 })
  const charged = await mppx.charge({ description: 'A forecast', ...offer() })(request)
  if (charged.status === 402) return charged.challenge
  return charged.withReceipt(Response.json({ forecast: 'sunny' }))
}

const server = createServer(Request.toNodeListener(sell))
server.listen(0, '127.0.0.1', () => console.log(`http://localhost:${server.address().port}`))
process.stdin.resume().on('end', () => process.exit(0))
