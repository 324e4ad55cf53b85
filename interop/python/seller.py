"""A seller written with pympp, on the Tempo chain at RPC: /paid, /sponsored and /split, each a
forecast for pathUSD (pympp has no proofs, and names no modes). Says where it listens on standard
output, and stops with its standard input.
"""

import asyncio
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mpp.methods.tempo import PATH_USD, TESTNET_CHAIN_ID, TempoAccount
from mpp.methods.tempo import server as tempo
from mpp.server import Mpp, Request, Response
from mpp.store import MemoryStore

mpp = Mpp(
    realm="localhost",
    secret_key=os.environ["SECRET"],
    store=MemoryStore(),
    methods=tempo.charge(
        chain_id=TESTNET_CHAIN_ID,
        rpc_url=os.environ["RPC"],
        currencies=[PATH_USD],
        recipient=os.environ["RECIPIENT"],
        fee_payer=TempoAccount.from_key(os.environ["SPONSOR_KEY"]),
    ),
)

# Splits are in atoms.
SPLITS = [
    {"amount": "2000", "recipient": os.environ["SPLIT_A"]},
    {"amount": "1000", "recipient": os.environ["SPLIT_B"]},
]
OFFERS = {
    "/paid": mpp.charge(amount="0.01", description="A forecast"),
    "/sponsored": mpp.charge(amount="0.01", description="A forecast", fee_payer=True),
    "/split": mpp.charge(amount="0.01", description="A forecast", splits=SPLITS),
}

# The SDK keeps its connections to the chain on one loop, and the server a thread for each buyer's.
loop = asyncio.new_event_loop()


async def sell(request: Request, path: str) -> Response:
    offer = OFFERS.get(path)
    if offer is None:
        return Response(404, body="No such forecast")
    charged = await offer(request)
    if charged.status != 200:
        return charged.challenge
    # The bytes that the other sellers send, which have no space in them.
    forecast = Response(200, {"Content-Type": "application/json"}, '{"forecast":"sunny"}')
    return charged.with_receipt(forecast)


class Seller(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = f"http://{self.headers.get('Host', 'localhost')}{self.path}"
        request = Request(self.command, url, self.headers.items())
        path = self.path.partition("?")[0]
        try:
            answer = asyncio.run_coroutine_threadsafe(sell(request, path), loop).result()
        except Exception as error:
            # The SDK raises where it would not have the buyer pay again.
            answer = Response(500, body=f"{type(error).__name__}: {error}")
        body = answer.body or b""
        self.send_response(answer.status)
        for name, value in answer.headers.multi_items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


threading.Thread(target=loop.run_forever, daemon=True).start()
server = ThreadingHTTPServer(("127.0.0.1", 0), Seller)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://localhost:{server.server_port}", flush=True)
sys.stdin.read()
