// What a program learns of each request through the client that openapi-generator makes.

import {Configuration, EventsApi, ProblemFromJSON, ResponseError} from './openapi_generator/index.js';
import type {Learnt, Request} from './requests.js';
import {tell} from './requests.js';

async function learnt([method, url, eventId, if_none_match]: Request): Promise<Learnt> {
  const api = new EventsApi(new Configuration({basePath: url}));
  try {
    if (method === 'HEAD') {
      return {status: (await api.headEventWithSubscriptionsRaw({eventId})).raw.status};
    }
    const answer = await api.getEventWithSubscriptionsRaw({eventId, ifNoneMatch: if_none_match ?? undefined});
    return {status: answer.raw.status, names: (await answer.value()).names};
  } catch (failure) {
    if (!(failure instanceof ResponseError)) throw failure;
    const {status, headers} = failure.response;
    const body = await failure.response.text();
    return {status, reason: body && ProblemFromJSON(JSON.parse(body)).reason, wait: headers.get('Retry-After')};
  }
}

await tell(learnt);
