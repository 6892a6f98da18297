/**
 * Owns: another version of the package, installed beside this one, and `upgrade` by each of them.
 * Runs in: device test processes.
 * Must not: outlive its test: a controller that was started from it would miss its files.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { controllerPid } from './leftovers.ts';
import { packageFolder } from './package-folder.ts';
import { describe, type Outcome, run, until } from './process.ts';
import { commandIn, ublkNbd } from './product.ts';
import type { Scope } from './scope.ts';

export interface CopyOptions {
  readonly version: string;
  /** Let it speak the next version of the messages. */
  readonly speaksNext?: boolean;
  /** Its addon is no library. */
  readonly isBroken?: boolean;
}

/** The folder of the copy. The scope ends the controller that runs then, whosever it is. */
export function copyPackage(scope: Scope, options: CopyOptions): string {
  const folder = scope.path(`package-${options.version}`);
  for (const part of ['bin', 'src']) {
    cpSync(join(packageFolder, 'dist', part), join(folder, 'dist', part), { recursive: true });
  }
  symlinkSync(join(packageFolder, 'node_modules'), join(folder, 'node_modules'));
  edit(join(packageFolder, 'package.json'), join(folder, 'package.json'), (text) =>
    text.replace(/"version": "[^"]*"/, `"version": "${options.version}"`),
  );
  copyBuild(folder, options.isBroken === true);
  if (options.speaksNext === true) {
    speakNext(join(folder, 'dist', 'src', 'gateway'));
  }
  scope.defer(() => {
    const pid = controllerPid();
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  });
  return folder;
}

/** The build puts modules together, so that it has to be looked for. */
function speakNext(folder: string): void {
  const version = /RPC_VERSION = (\d+);/;
  const having = readdirSync(folder)
    .filter((name) => name.endsWith('.js'))
    .map((name) => join(folder, name))
    .filter((path) => version.test(readFileSync(path, 'utf8')));
  assert(having.length > 0, 'the version of the messages is found');
  for (const path of having) {
    edit(path, path, (text) =>
      text.replace(version, (_, now) => `RPC_VERSION = ${Number(now) + 1};`),
    );
  }
}

function edit(from: string, to: string, change: (text: string) => string): void {
  const text = readFileSync(from, 'utf8');
  const changed = change(text);
  assert.notEqual(changed, text, `${from} has what is to be changed`);
  writeFileSync(to, changed);
}

function copyBuild(folder: string, isBroken: boolean): void {
  if (!isBroken) {
    symlinkSync(join(packageFolder, 'build'), join(folder, 'build'));
    return;
  }
  for (const kind of ['Release', 'Debug']) {
    const build = join(folder, 'build', kind);
    mkdirSync(build, { recursive: true });
    writeFileSync(join(build, 'ublk_nbd.node'), 'not a library');
    const helper = join('build', kind, 'ublk-nbd-helper');
    symlinkSync(join(packageFolder, helper), join(folder, helper));
  }
}

/** `upgrade` of the package in `folder`. */
export function upgrade(folder: string, ...args: readonly string[]): Promise<Outcome> {
  const words = ['upgrade', ...args];
  return folder === packageFolder ? ublkNbd(words) : run(commandIn(folder, words));
}

/**
 * What puts an upgrade off, with nothing changed: a backend that is away or does not answer in 5 s,
 * another process that starts a controller, a process that did not get to answer a question.
 */
const PUT_OFF = /; try again when |another upgrade is under way|did not answer '/;

/** As who reads that would, it is tried again where it is put off. */
export async function upgradeMust(folder: string, ...args: readonly string[]): Promise<string> {
  let outcome = await upgrade(folder, ...args);
  const isDecided = async (): Promise<boolean> => {
    if (outcome.status === 0 || !PUT_OFF.test(outcome.stderr)) return true;
    outcome = await upgrade(folder, ...args);
    return outcome.status === 0;
  };
  await until('the upgrade is not put off', isDecided).catch(() => undefined);
  assert.equal(outcome.status, 0, describe(outcome));
  return outcome.stdout;
}
