// What a program learns of each request through the client that hey-api makes.

import {createClient} from './hey_api/client/index.js';
import {getEventWithSubscriptions, headEventWithSubscriptions} from './hey_api/sdk.gen.js';
import type {Learnt, Request} from './requests.js';
import {tell} from './requests.js';

async function learnt([method, url, event_id, if_none_match]: Request): Promise<Learnt> {
  const client = createClient({baseUrl: url});
  if (method === 'HEAD') {
    const {response} = await headEventWithSubscriptions({client, path: {event_id}});
    return {status: response?.status};
  }
  const headers = if_none_match === null ? {} : {'If-None-Match': if_none_match};
  const {data, error, response} = await getEventWithSubscriptions({client, path: {event_id}, headers});
  return {status: response?.status, names: data?.names, reason: error?.reason, wait: response?.headers.get('Retry-After')};
}

await tell(learnt);
