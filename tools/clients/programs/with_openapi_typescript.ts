// What a program learns of each request through openapi-fetch, with the types that openapi-typescript makes.

import createClient from 'openapi-fetch';
import type {paths} from './openapi_typescript.js';
import type {Learnt, Request} from './requests.js';
import {tell} from './requests.js';

async function learnt([method, url, event_id, if_none_match]: Request): Promise<Learnt> {
  const client = createClient<paths>({baseUrl: url});
  const header = if_none_match === null ? {} : {'If-None-Match': if_none_match};
  const params = {path: {event_id}, header};
  if (method === 'HEAD') {
    const {response} = await client.HEAD('/events-with-subscriptions/{event_id}/', {params});
    return {status: response.status};
  }
  const {data, error, response} = await client.GET('/events-with-subscriptions/{event_id}/', {params});
  return {status: response.status, names: data?.names, reason: error?.reason, wait: response.headers.get('Retry-After')};
}

await tell(learnt);
