/**
 * Owns: reading what bench/http/guest left of a run, whatever it measured.
 * Runs in: the bench's process on the host.
 * Must not: print, or judge a figure.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type FioSide, ranNs, readFio, type Thread } from '../measured.ts';
import type { ClientName, Run } from './plan.ts';

/** In the VM a ns is an instruction, so that times of the processor are counts of these. */
export interface Cold {
  readonly bytesPerS: number;
  /** Of the first 4 KiB, on a connection that has to be made for it. */
  readonly firstNs: number;
  /** What the client's own processes ran, for each byte; for curl with its start. */
  readonly clientNsPerByte: number;
  readonly originNsPerByte: number;
  /** That the origin answered. */
  readonly requests: number;
  readonly connections: number;
}

export interface Warm {
  /** Instructions per I/O, everything together, and of these the client's own. */
  readonly total: number;
  readonly client: number;
}

export interface Random {
  /** That the origin sent for each byte that was read. */
  readonly sentPerByte: number;
}

function lines(folder: string, run: Run, kind: string): string[] {
  const text = readFileSync(join(folder, `${run.name}.${kind}`), 'utf8').trim();
  return text === '' ? [] : text.split('\n');
}

interface Answers {
  readonly bytes: number;
  readonly requests: number;
  readonly connections: number;
}

/** `CONNECTION BYTES` for each request that the origin answered. */
function readAnswers(folder: string, run: Run): Answers {
  const answers = lines(folder, run, 'answers').map((line) => line.split(' '));
  return {
    bytes: answers.reduce((sum, [, bytes]) => sum + Number(bytes), 0),
    requests: answers.length,
    connections: new Set(answers.map(([connection]) => connection)).size,
  };
}

/** Which threads are the client's: our server process, or nbdkit and the kernel's workers. */
function isOf(client: ClientName, server: number | undefined): (thread: Thread) => boolean {
  if (client === 'nbdkit-curl') return ({ name }) => /^(nbdkit|kworker\/)/.test(name);
  assert(server !== undefined, 'each of our devices has its server process noted');
  return ({ pid }) => pid === server;
}

const isOrigin = ({ name }: Thread): boolean => name === 'nginx';

function readDevice(folder: string, run: Run): FioSide {
  return readFio(folder, run.name, 'read');
}

export function readCold(folder: string, run: Run, servers: Map<string, number>): Cold {
  const { requests, connections, bytes } = readAnswers(folder, run);
  const originNsPerByte = ranNs(folder, run.name, isOrigin) / bytes;
  const common = { originNsPerByte, requests, connections };
  if (run.client !== 'curl') {
    const client = ranNs(folder, run.name, isOf(run.client, servers.get(run.name)));
    return {
      ...common,
      bytesPerS: readDevice(folder, run).bw_bytes,
      firstNs: readFio(folder, `${run.name}.first`, 'read').clat_ns.mean,
      clientNsPerByte: client / bytes,
    };
  }
  const [first] = lines(folder, run, 'first').map(Number);
  const transfers = lines(folder, run, 'curl').map(Number);
  const cpu = lines(folder, run, 'cpu').flatMap((line) => line.split(' ').map(Number));
  assert(first !== undefined && transfers.length === connections, 'a range a connection');
  return {
    ...common,
    bytesPerS: bytes / Math.max(...transfers),
    firstNs: first * 1e9,
    clientNsPerByte: (cpu.reduce((sum, seconds) => sum + seconds, 0) * 1e9) / bytes,
  };
}

export function readWarm(folder: string, run: Run, servers: Map<string, number>): Warm {
  const { iops, total_ios: total } = readDevice(folder, run);
  const client = ranNs(folder, run.name, isOf(run.client, servers.get(run.name)));
  return { total: 1e9 / iops, client: client / total };
}

export function readRandom(folder: string, run: Run): Random {
  const readBytes = readDevice(folder, run).total_ios * 4096;
  return { sentPerByte: readAnswers(folder, run).bytes / readBytes };
}
