/**
 * What the chain of the AWS SDK finds in tests: files of a home of the test's own, variables for a
 * time, services on 127.0.0.1; and nothing of this machine, or of a cloud that it may run in.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Test } from 'tap';

export const SECRET = 'hunter2/hunter2+hunter2';

for (const name of Object.keys(process.env)) {
  if (name.startsWith('AWS_')) delete process.env[name];
}
process.env.AWS_EC2_METADATA_DISABLED = 'true';

/** A home with `.aws`; the files' paths too. */
export function awsHome(t: Test, credentials: string, config = '') {
  const folder = t.testdir({ '.aws': { credentials, config } });
  const credentialsFile = join(folder, '.aws/credentials');
  return { home: folder, credentialsFile, configFile: join(folder, '.aws/config') };
}

/** Sets variables for the time of `body`. */
export async function withEnvironment(
  variables: Record<string, string>,
  body: () => Promise<void>,
): Promise<void> {
  Object.assign(process.env, variables);
  try {
    await body();
  } finally {
    for (const name of Object.keys(variables)) delete process.env[name];
  }
}

/** A web server; it refuses what `answer` has no text for. */
export async function awsService(
  t: Test,
  answer: (
    method: string,
    url: string,
    headers: NodeJS.Dict<string | string[]>,
    body: string,
  ) => string | { readonly refusal: string },
): Promise<string> {
  const server = createServer(async (request, response) => {
    const { method = '', url = '', headers } = request;
    const said = answer(method, url, headers, await text(request));
    const refusal = typeof said === 'string' ? undefined : said.refusal;
    if (said === '' || refusal !== undefined) response.writeHead(401);
    response.end(refusal ?? said);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
