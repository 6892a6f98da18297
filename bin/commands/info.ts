/**
 * Owns: `ublk-nbd info`.
 * Runs in: the CLI, which talks to the backend itself.
 * Must not: need root, the driver or a controller.
 */
import type { TargetInfo } from '../../src/gateway/info.ts';
import { defineCommand, jsonOption } from '../command.ts';
import { originConnectOptions, originOptions } from '../http-options.ts';
import { fields, humanSize, json } from '../output.ts';
import { s3ConnectOptions, s3Options } from '../s3-options.ts';

const UNLIMITED_BYTES = 0xffff_ffff;

export const command = defineCommand({
  examples: [
    ['info backup.example', 'Size, flags, block sizes and the list of exports'],
    ['info nbd://backup.example/disk --json', 'One export, for machines'],
  ],
  build: (yargs) =>
    yargs
      .positional('target', {
        type: 'string',
        demandOption: true,
        describe: 'As for connect',
      })
      .option('export', {
        alias: 'N',
        type: 'string',
        requiresArg: true,
        describe: 'Export to ask for, where TARGET names none',
      })
      .options(originOptions)
      .options(s3Options)
      .options(jsonOption),
  run: async (args, context) => {
    const target = await context.gateway.parseTarget(args.target, args.export);
    const s3 = await s3ConnectOptions(args, target, process.env);
    const origin = {
      ...originConnectOptions(args, target),
      ...(s3 === undefined ? {} : { s3 }),
    };
    const info = await context.gateway.info(target, context.signal(), origin);
    context.print(args.json ? json(infoJson(info)) : infoText(info));
  },
});

function infoJson(info: TargetInfo): Record<string, unknown> {
  return {
    target: info.target,
    exportName: info.exportName ?? null,
    description: info.description ?? null,
    ...info.backend,
    structuredReplies: info.structuredReplies ?? null,
    exports: info.exports ?? null,
  };
}

function infoText(info: TargetInfo): string {
  const { backend } = info;
  const largest = backend.maximumBlockBytes;
  return fields([
    ['target', info.target],
    ['size', `${backend.sizeBytes} bytes (${humanSize(backend.sizeBytes)})`],
    ['mode', backend.readOnly ? 'read-only' : 'read-write'],
    ['offers', offers(info).join(', ') || 'reads and writes only'],
    ['smallest request', `${backend.minimumBlockBytes} bytes`],
    ['best request', `${backend.preferredBlockBytes} bytes`],
    ['largest request', largest === UNLIMITED_BYTES ? 'no limit' : `${largest} bytes`],
    ...pair('export', info.exportName, shownName),
    ...pair('description', info.description),
    ...pair('exports', info.exports, (names) => names.map(shownName).join(', ')),
  ]);
}

/** No line for what is not known. */
function pair<T>(
  name: string,
  value: T | undefined,
  show: (value: T) => string = String,
): [string, string][] {
  return value === undefined ? [] : [[name, show(value)]];
}

/** The empty name is the backend's default export. */
function shownName(name: string): string {
  return name === '' ? '(default)' : name;
}

function offers({ backend, structuredReplies = false }: TargetInfo): string[] {
  const names: [boolean, string][] = [
    [backend.canFlush, 'flush'],
    [backend.canFua, 'fua'],
    [backend.canTrim, 'trim'],
    [backend.canWriteZeroes, 'write-zeroes'],
    [backend.canFastZero, 'fast-zero'],
    [backend.canMultiConn, 'multi-conn'],
    [backend.rotational, 'rotational'],
    [structuredReplies, 'structured-replies'],
  ];
  return names.filter(([offered]) => offered).map(([, name]) => name);
}
