// The requests that a program is to make, and what it tells of each answer.

declare const process: {argv: string[]};

export type Request = ['GET' | 'HEAD', string, string, string | null];

export type Learnt = {status: number | undefined; names?: string[]; reason?: string; wait?: string | null};

export async function tell(learnt: (request: Request) => Promise<Learnt>): Promise<void> {
  const found = [];
  for (const request of JSON.parse(process.argv[2] ?? '') as Request[]) {
    const {wait, reason, ...rest} = await learnt(request);
    found.push({...rest, ...(reason ? {reason} : {}), ...(wait ? {wait: Number(wait)} : {})});
  }
  console.log(JSON.stringify(found));
}
