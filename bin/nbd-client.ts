/**
 * Owns: recognising a command line that is written for nbd-client(8), and what to type instead.
 * Runs in: the CLI, on the raw arguments, before yargs sees them.
 * Must not: run the translated command: our devices have other names and rules than /dev/nbdN.
 */
import type { GatewayError } from '../src/protocols/errors.ts';
import { usageError } from './command.ts';

const PORT = /^[1-9]\d{0,4}$/;
const NBD_DEVICE = /^\/dev\/nbd(\d+)$/;

/**
 * The error that names the right command, or undefined when this is not a line for nbd-client.
 * `commands` are the names of our own.
 */
export function nbdClientHint(
  argv: readonly string[],
  commands: readonly string[],
): GatewayError | undefined {
  const [first = '', ...rest] = argv;
  if (/^--?(l|list)$/.test(first) && rest[0] !== undefined) return answer(listCommand(rest));
  if (first === 'list' && rest[0] !== undefined && !rest[0].startsWith('-')) {
    return answer(listCommand(rest));
  }
  if (/^--?(d|disconnect)$/.test(first)) return answer(disconnectCommand(rest[0]));
  if (/^--?(c|check)$/.test(first)) return answer('ublk-nbd list');
  if (first === 'disconnect') {
    const device = rest.find((word) => NBD_DEVICE.test(word));
    return device === undefined ? undefined : answer(disconnectCommand(device));
  }
  if (/^--?(u|unix)$/.test(first)) return answer(connectCommand(argv));
  if (first !== 'connect' && commands.includes(first)) return undefined;
  const words = first === 'connect' ? rest : argv;
  if (words[0] === undefined || words[0].startsWith('-')) return undefined;
  const isForeign = PORT.test(words[1] ?? '') || words.slice(1).some((w) => NBD_DEVICE.test(w));
  return isForeign ? answer(connectCommand(words)) : undefined;
}

function answer(command: string): GatewayError {
  return usageError('this is how nbd-client is called', `type: ${command}`);
}

/** `HOST [PORT] [/dev/nbdN] [-N NAME]` or `-unix PATH …` as connect takes it. */
function connectCommand(words: readonly string[]): string {
  let host: string | undefined;
  let port: string | undefined;
  let id = '';
  let exportName = '';
  let unixPath: string | undefined;
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const device = NBD_DEVICE.exec(word);
    if (device !== null) id = ` --id ${device[1]}`;
    else if (/^--?(u|unix)$/.test(word)) unixPath = rest.shift();
    else if (/^(-N|--?name|--export)$/.test(word)) {
      exportName = ` --export ${shellWord(rest.shift() ?? 'NAME')}`;
    } else if (word.startsWith('-')) continue;
    else if (host === undefined && unixPath === undefined) host = word;
    else if (port === undefined && PORT.test(word)) port = word;
  }
  const target =
    unixPath === undefined ? hostPort(host, port) : shellWord(`nbd+unix:///?socket=${unixPath}`);
  return `ublk-nbd connect ${target}${exportName}${id}`;
}

function listCommand(words: readonly string[]): string {
  return `ublk-nbd info ${hostPort(words[0], PORT.test(words[1] ?? '') ? words[1] : undefined)}`;
}

function disconnectCommand(device: string | undefined): string {
  const id = NBD_DEVICE.exec(device ?? '')?.[1];
  if (id === undefined) return `ublk-nbd disconnect ${device ?? 'DEV'}`;
  return `ublk-nbd disconnect /dev/ublkb${id} (devices here are /dev/ublkbN, see: ublk-nbd list)`;
}

function hostPort(host = 'HOST', port?: string): string {
  const name = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
  return shellWord(port === undefined ? name : `${name}:${port}`);
}

/** Quoted only where a shell would read it differently. */
function shellWord(text: string): string {
  return /^[\w@%+=:,./[\]-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
