/**
 * Owns: `ublk-nbd cache list|prune|verify`.
 * Runs in: the CLI.
 * Must not: need a controller or a device.
 */
import { resolve } from 'node:path';
import type { CacheEntryView, PruneStep, VerifyStep } from '../../src/gateway/cache-folder.ts';
import { type Context, defineCommand, integerOption, jsonOption, usageError } from '../command.ts';
import { humanSize, json, table } from '../output.ts';

const DEFAULT_DAYS = 30;

interface CacheArguments {
  readonly action: 'list' | 'prune' | 'verify';
  readonly directory: string | undefined;
  readonly all: boolean | undefined;
  readonly 'older-than': number | undefined;
  readonly json: boolean | undefined;
}

export const command = defineCommand<CacheArguments>({
  examples: [
    ['cache list', 'The images that are kept in /var/cache/ublk-nbd'],
    ['cache prune --older-than 7', 'Remove what no device has used for a week'],
    ['cache verify /srv/cache', 'Read everything and drop what the disk has damaged'],
  ],
  build: (yargs) =>
    yargs
      .positional('action', {
        choices: ['list', 'prune', 'verify'] as const,
        demandOption: true,
        describe: 'Show the entries, remove those that are not used, or check what they hold',
      })
      .positional('directory', {
        type: 'string',
        describe: 'As --cache of connect [/var/cache/ublk-nbd]',
      })
      .option('all', { type: 'boolean', describe: 'prune: every entry that is not in use' })
      .option(
        'older-than',
        integerOption('older-than', `prune: Days without use [${DEFAULT_DAYS}]`, 1, 36_500),
      )
      .options(jsonOption),
  run: async (args, context) => {
    const { action, directory, all, 'older-than': days } = args;
    if (action !== 'prune' && (all !== undefined || days !== undefined)) {
      throw usageError('--all and --older-than are for cache prune', 'leave them out');
    }
    if (all === true && days !== undefined) {
      throw usageError('--all and --older-than exclude each other', 'leave one out');
    }
    if (directory === '') throw usageError('the directory has no name', 'leave it out, or name it');
    const path = directory === undefined ? undefined : resolve(directory);
    if (action === 'list') return list(path, args.json === true, context);
    if (action === 'verify') return verify(path, args.json === true, context);
    const olderThanDays = all === true ? undefined : (days ?? DEFAULT_DAYS);
    return prune(path, olderThanDays, args.json === true, context);
  },
});

async function list(
  directory: string | undefined,
  asJson: boolean,
  { gateway, print }: Context,
): Promise<void> {
  const entries = await gateway.listCache(directory);
  if (asJson) return print(json(entries));
  if (entries.length === 0) return;
  const rows = entries.map((entry) => [
    humanOrNone(entry.sizeBytes),
    humanSize(entry.cachedBytes),
    entry.inUse === null ? '-' : entry.inUse ? 'yes' : 'no',
    entry.madeAtMs === null ? '-' : new Date(entry.madeAtMs).toISOString(),
    nameOf(entry) + (entry.broken === null ? '' : ` (broken: ${entry.broken})`),
  ]);
  print(table(['SIZE', 'CACHED', 'IN USE', 'MADE', 'URL'], rows));
}

function humanOrNone(bytes: number | null): string {
  return bytes === null ? '-' : humanSize(bytes);
}

/** An entry that does not tell its object has the name of its folder. */
function nameOf({ url, name }: CacheEntryView): string {
  return url ?? name;
}

async function prune(
  directory: string | undefined,
  olderThanDays: number | undefined,
  asJson: boolean,
  { gateway, print, signal }: Context,
): Promise<void> {
  const steps: PruneStep[] = [];
  for await (const step of gateway.pruneCache(directory, olderThanDays, signal())) {
    steps.push(step);
    const { entry, outcome, freedBytes } = step;
    if (asJson || outcome === 'recent') continue;
    const what = outcome === 'removed' ? `removed, ${humanSize(freedBytes)} freed` : 'in use';
    print(`${nameOf(entry)}: ${what}`);
  }
  const freedBytes = steps.reduce((sum, step) => sum + step.freedBytes, 0);
  const removed = steps.filter(({ outcome }) => outcome === 'removed').length;
  const entries = steps.map(({ entry: { name, url }, outcome, freedBytes }) => ({
    ...{ name, url, outcome, freedBytes },
  }));
  if (asJson) print(json({ freedBytes, entries }));
  else print(`${humanSize(freedBytes)} freed, ${removed} of ${steps.length} entries removed`);
}

async function verify(
  directory: string | undefined,
  asJson: boolean,
  { gateway, print, signal }: Context,
): Promise<void> {
  const steps: VerifyStep[] = [];
  for await (const step of gateway.verifyCache(directory, signal())) {
    steps.push(step);
    if (!asJson) print(verdictLine(step));
  }
  const droppedBytes = steps.reduce((sum, step) => sum + step.droppedBytes, 0n);
  const entries = steps.map(({ entry: { name, url, broken }, outcome, ...verdict }) => ({
    ...{ name, url, outcome, broken },
    ...verdict,
  }));
  const broken = steps.filter(({ outcome }) => outcome === 'broken').length;
  if (asJson) print(json({ droppedBytes, entries }));
  else if (droppedBytes > 0n) print('what was damaged is dropped, and fetched again when needed');
  else if (broken === 0) print('nothing is damaged');
  if (broken === 0) return;
  throw usageError(
    `${broken} of ${steps.length} entries cannot be checked`,
    'connect the image again, or remove them: ublk-nbd cache prune --all',
  );
}

function verdictLine({ entry, outcome, checkedBytes, droppedBytes }: VerifyStep): string {
  const name = nameOf(entry);
  if (outcome === 'in use') return `${name}: in use, not checked`;
  if (outcome === 'broken') return `${name}: broken: ${entry.broken}`;
  const dropped = droppedBytes === 0n ? 'all right' : `${humanSize(droppedBytes)} dropped`;
  return `${name}: ${humanSize(checkedBytes)} checked, ${dropped}`;
}
