// Channel ids, digests and signatures of sessions as viem and ox make them, for what stands in the first
// argument: { key, channels: [{ family, chainId, escrow, descriptor, cumulative }] }.
import { hashTypedData, keccak256, encodeAbiParameters, parseAbiParameters } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'

const { key, channels } = JSON.parse(process.argv[2])
const account = privateKeyToAccount(key)

const domains = {
  v1: 'Tempo Stream Channel',
  v2: 'TIP20 Channel Reserve',
  evm: 'EVM Payment Channel',
}
const preimage = (family, it, escrow, chainId) =>
  family === 'v2'
    ? encodeAbiParameters(
        parseAbiParameters('address,address,address,address,bytes32,address,bytes32,address,uint256'),
        [it.payer, it.payee, it.operator, it.token, it.salt, it.authorizedSigner, it.expiringNonceHash, escrow, BigInt(chainId)],
      )
    : encodeAbiParameters(parseAbiParameters('address,address,address,bytes32,address,address,uint256'), [
        it.payer, it.payee, it.token, it.salt, it.authorizedSigner, escrow, BigInt(chainId),
      ])

const made = []
for (const { family, chainId, escrow, descriptor, cumulative } of channels) {
  const channelId = keccak256(preimage(family, descriptor, escrow, chainId))
  const amount = { name: 'cumulativeAmount', type: family === 'v2' ? 'uint96' : 'uint128' }
  const typed = (primaryType) => ({
    domain: { name: domains[family], version: '1', chainId, verifyingContract: escrow },
    types: { [primaryType]: [{ name: 'channelId', type: 'bytes32' }, amount] },
    primaryType,
    message: { channelId, cumulativeAmount: BigInt(cumulative) },
  })
  made.push({
    channelId,
    digest: hashTypedData(typed('Voucher')),
    close: hashTypedData(typed('CloseAuthorization')),
    signature: await account.signTypedData(typed('Voucher')),
  })
}
console.log(JSON.stringify(made))
