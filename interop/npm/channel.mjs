// A session's payer written with the official SDK. The first argument is { key, rpc, challenge, deposit,
// steps }; a step is 'auto' (open or pay, as the SDK sees fit) or { close: amount } or
// { voucher: amount }, about the channel that was opened. Says each credential as a line of JSON.
import { Credential } from 'mppx'
import * as client from 'mppx/client'
import { createClient, http } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { tempoModerato } from 'viem/chains'

const { key, rpc, challenge, deposit, steps } = JSON.parse(process.argv[2])
const chain = tempoModerato.extend({ feeToken: '0x20c0000000000000000000000000000000000000' })
const node = createClient({ chain, transport: http(rpc) })
const account = privateKeyToAccount(key)
const isNew = challenge.request.methodDetails.sessionProtocol === 'v2'
const make = isNew ? client.tempo.session : client.sessionLegacy ?? client.tempo.sessionLegacy
const made = make({ account, getClient: () => node, deposit, allowCustomEscrow: true })
const method = Array.isArray(made) ? made.find((it) => it.createCredential) : made

let channelId, descriptor
for (const step of steps) {
  const [action] = step === 'auto' ? [] : Object.keys(step)
  const context = action && {
    action,
    channelId,
    ...(descriptor ? { descriptor } : {}),
    cumulativeAmountRaw: step[action],
  }
  const credential = Credential.deserialize(await method.createCredential({ challenge, context: context ?? {} }))
  channelId ??= credential.payload.channelId
  descriptor ??= credential.payload.descriptor
  console.log(JSON.stringify(credential))
}
