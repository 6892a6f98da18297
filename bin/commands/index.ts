/**
 * Owns: the list of commands: name, arguments, one line of description, and where its module is.
 * Runs in: the CLI.
 * Must not: import a command's module before that command is called for; start-up time is felt.
 */
import type { Command } from '../command.ts';

export interface CommandEntry {
  readonly name: string;
  /** Positional arguments as yargs writes them. */
  readonly positionals: string;
  readonly summary: string;
  load(): Promise<{ readonly command: Command }>;
}

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'connect',
    positionals: '<target>',
    summary: 'Make TARGET a block device and print its path',
    load: () => import('./connect.ts'),
  },
  {
    name: 'disconnect',
    positionals: '[device]',
    summary: 'Flush a device to its backend and remove it',
    load: () => import('./disconnect.ts'),
  },
  {
    name: 'list',
    positionals: '',
    summary: 'Show the devices',
    load: () => import('./list.ts'),
  },
  {
    name: 'recover',
    positionals: '[device]',
    summary: 'Serve a device again whose server process died',
    load: () => import('./recover.ts'),
  },
  {
    name: 'upgrade',
    positionals: '[device]',
    summary: 'Bring controller and server processes to the installed version',
    load: () => import('./upgrade.ts'),
  },
  {
    name: 'events',
    positionals: '',
    summary: 'Print what happens to the devices, until interrupted',
    load: () => import('./events.ts'),
  },
  {
    name: 'info',
    positionals: '<target>',
    summary: 'Show what a backend offers; makes no device and needs no root',
    load: () => import('./info.ts'),
  },
  {
    name: 'mount',
    positionals: '<target> <directory>',
    summary: 'Connect TARGET and mount its filesystem',
    load: () => import('./mount.ts'),
  },
  {
    name: 'umount',
    positionals: '<directory>',
    summary: 'Unmount DIRECTORY and disconnect its device',
    load: () => import('./umount.ts'),
  },
  {
    name: 'cache',
    positionals: '<action> [directory]',
    summary: 'Show, prune or verify what HTTP images keep on disk',
    load: () => import('./cache.ts'),
  },
  {
    name: 'doctor',
    positionals: '',
    summary: 'Check what this machine needs and say how to mend what is missing',
    load: () => import('./doctor.ts'),
  },
  {
    name: 'daemon',
    positionals: '',
    summary: 'Start the controller; connect does so by itself',
    load: () => import('./daemon.ts'),
  },
  {
    name: 'logs',
    positionals: '[device]',
    summary: 'Print the log of the controller and the server processes',
    load: () => import('./logs.ts'),
  },
  {
    name: 'completion',
    positionals: '<shell>',
    summary: 'Print the completion script for bash or zsh',
    load: () => import('./completion.ts'),
  },
];
