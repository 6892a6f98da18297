/**
 * Owns: the scripted backend as a process of its own:
 * `scripted-nbd-main [--fault NAME] [--port N | --socket PATH] [--size BYTES] [--simple]
 * [--read-only] [--delay-ms N] [--max-clients N] [--hits N] [--disk FILE] [--list-faults]`.
 * Prints `listening PORT` (or the socket's path), then a JSON line of its counters for every line
 * `counters` on its stdin, and one more when SIGTERM or SIGINT ends it.
 * Runs as: a process, in tests of the CLI and of devices.
 * Must not: outlive its stdin when that is a pipe that its starter holds.
 */
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import {
  handshakeFaults,
  listFaults,
  type ScriptedOptions,
  startScriptedNbd,
  transmissionFaults,
} from './scripted-nbd.ts';
import { ALL_FLAGS, type BackendSettings } from './scripted-nbd-backend.ts';
import { FLAG } from './scripted-nbd-wire.ts';

const { values } = parseArgs({
  options: {
    fault: { type: 'string' },
    port: { type: 'string', default: '0' },
    socket: { type: 'string' },
    size: { type: 'string' },
    simple: { type: 'boolean', default: false },
    'read-only': { type: 'boolean', default: false },
    'delay-ms': { type: 'string', default: '0' },
    'max-clients': { type: 'string' },
    hits: { type: 'string' },
    disk: { type: 'string' },
    'list-faults': { type: 'boolean', default: false },
  },
});

function settings(): Partial<BackendSettings> {
  return {
    ...(values.size !== undefined && { sizeBytes: BigInt(values.size) }),
    ...(values.simple && { structuredReplies: false }),
    ...(values['read-only'] && { transmissionFlags: ALL_FLAGS | FLAG.readOnly }),
  };
}

function options(): ScriptedOptions {
  return {
    settings: settings(),
    port: Number(values.port),
    delayMs: Number(values['delay-ms']),
    ...(values.fault !== undefined && { fault: values.fault }),
    ...(values.socket !== undefined && { socketPath: values.socket }),
    ...(values['max-clients'] !== undefined && { maxClients: Number(values['max-clients']) }),
    ...(values.disk !== undefined && { disk: values.disk }),
    ...(values.hits !== undefined && { hits: Number(values.hits) }),
  };
}

async function main(): Promise<void> {
  const backend = await startScriptedNbd(options());
  const report = () => {
    const { counters, clientErrors } = backend;
    process.stdout.write(`${JSON.stringify({ ...counters, clientErrors })}\n`);
  };
  const end = async () => {
    report();
    await backend.close();
    process.exit(0);
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    if (line === 'counters') report();
  });
  process.stdout.write(`listening ${values.socket ?? backend.port}\n`);
}

if (values['list-faults']) {
  for (const fault of [...handshakeFaults, ...listFaults]) {
    process.stdout.write(`handshake ${fault.name} ${fault.expected.code}\n`);
  }
  for (const fault of transmissionFaults) {
    process.stdout.write(
      `transmission ${fault.name} ${fault.command} ${fault.outcomes.join('|')}\n`,
    );
  }
} else {
  await main();
}
