// A receiver that believes what the standard's own library verifies: node webhook.mjs SECRET.
// Prints its port, then one line of JSON for each message it was sent.
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.argv[2]);

const server = createServer((request, answer) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    let status = 204;
    let said = null;
    try {
      said = webhook.verify(Buffer.concat(chunks).toString("utf8"), request.headers);
    } catch (error) {
      status = 401;
    }
    console.log(JSON.stringify({ status, id: request.headers["webhook-id"], said }));
    answer.writeHead(status).end();
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
