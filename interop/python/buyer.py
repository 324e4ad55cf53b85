"""A buyer written with pympp: pays each URL once, with the account of KEY on the Tempo chain at
RPC. Says a line of JSON for each URL.
"""

import asyncio
import base64
import json
import os
import sys

from mpp.client import Mpp
from mpp.methods.tempo import PATH_USD, TESTNET_CHAIN_ID, TempoAccount
from mpp.methods.tempo import client as tempo

# The SDK's own minute is longer than chains of this age let a transaction wait.
tempo.EXPIRING_NONCE_VALID_BEFORE_SECS = 25


def decoded(receipt: str | None) -> object:
    if receipt is None:
        return None
    return json.loads(base64.urlsafe_b64decode(receipt + "=" * (-len(receipt) % 4)))


async def buy(mpp: Mpp, url: str) -> dict:
    try:
        response = await mpp.fetch(url)
        receipt = decoded(response.headers.get("Payment-Receipt"))
        return {"status": response.status_code, "body": response.text, "receipt": receipt}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


async def main() -> None:
    charge = tempo.charge(
        account=TempoAccount.from_key(os.environ["KEY"]),
        chain_id=TESTNET_CHAIN_ID,
        rpc_url=os.environ["RPC"],
        currency=PATH_USD,
    )
    async with Mpp(methods=[charge]) as mpp:
        for url in sys.argv[1:]:
            print(json.dumps(await buy(mpp, url)), flush=True)


asyncio.run(main())
