// The bare ceiling: uWebSockets.js that reads a POST's body and gives a fixed answer of the size of ours. What ESS adds
// to it is the price of parsing, durability and answering across threads. A process of its own, with one thread.

import uws, { type us_listen_socket, type us_socket } from 'uWebSockets.js';
import { answerRequests } from './support/helper.ts';

/** As long as ESS's answer to an event of the bench. */
const answer = '{"id":"event-10000001-000000000","ack":"log","partition":3,"offset":123456}';

export type BareRequest = { readonly type: 'listen' };
export interface BareReply {
  readonly port: number;
}

const app = uws.App();
app.post('/events/', (response) => {
  response.onAborted(() => {});
  response.onData((_chunk, isLast) => {
    if (!isLast) return;
    response.cork(() => {
      response.writeHeader('content-type', 'application/json');
      response.end(answer);
    });
  });
});

answerRequests<BareRequest, BareReply>(
  () =>
    new Promise((resolve, reject) => {
      app.listen('127.0.0.1', 0, (token: us_listen_socket | false) => {
        if (token === false) {
          reject(new Error('cannot listen'));
          return;
        }
        // us_listen_socket and us_socket are unrelated types in index.d.ts, but one and the same at run time.
        resolve({ port: uws.us_socket_local_port(token as unknown as us_socket) });
      });
    }),
  async () => void app.close(),
);
