// A seller written with the official SDK, on the Tempo chain at RPC: GET /paid costs 0.01 pathUSD.
// Says where it listens on standard output, and stops with its standard input.
import { createServer } from 'node:http'
import { Mppx, Request, tempo } from 'mppx/server'
import { createClient, http } from 'viem'
import { tempoModerato } from 'viem/chains'

const client = createClient({ chain: tempoModerato, transport: http(process.env.RPC) })
const mppx = Mppx.create({
  realm: 'localhost',
  secretKey: process.env.SECRET,
  methods: [
    tempo.charge({
      currency: '0x20c0000000000000000000000000000000000000',
      recipient: process.env.RECIPIENT,
      testnet: true,
      getClient: () => client,
    }),
  ],
})

const sell = async (request) => {
  const charged = await mppx.charge({ amount: '0.01', description: 'A forecast' })(request)
  if (charged.status === 402) return charged.challenge
  return charged.withReceipt(Response.json({ forecast: 'sunny' }))
}

const server = createServer(Request.toNodeListener(sell))
server.listen(0, '127.0.0.1', () => console.log(`http://localhost:${server.address().port}`))
process.stdin.resume().on('end', () => process.exit(0))
