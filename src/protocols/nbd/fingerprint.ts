/**
 * Owns: the content fingerprint of a read-only export: a hash of sampled blocks, by which another
 * image behind the same name is known after a reconnect.
 * Runs in: server processes, on the JS main thread, between the handshake and the hand-over.
 * Must not: read past its own replies, or call a block that cannot be read another content.
 */
import { createHash } from 'node:crypto';
import type { ByteStream } from '../adapter.ts';
import { GatewayError } from '../errors.ts';
import type { NbdExport } from './info.ts';
import {
  CHUNK_BYTES,
  CMD_READ,
  FLAG_REPLY_DONE,
  REPLY_TYPE_NONE,
  REPLY_TYPE_OFFSET_DATA,
  REPLY_TYPE_OFFSET_HOLE,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './wire.ts';

/** The first and the last block: partition tables and superblocks. */
const EDGE_BYTES = 64 << 10;
const SAMPLE_BYTES = 4 << 10;
/** Between the edges, evenly. */
const SAMPLES = 8;
/** Of one sample's reply; a backend may answer piece by piece, but not for ever. */
const MAXIMUM_CHUNKS = 256;

interface Sample {
  readonly offsetBytes: bigint;
  readonly data: Buffer;
  receivedBytes: number;
  chunks: number;
}

/**
 * Hex SHA-256 over the samples; undefined when a sample cannot be read. Rejects with
 * UNBD_BACKEND_PROTOCOL and with the stream's errors.
 */
export async function readFingerprint(
  stream: ByteStream,
  { info, structuredReplies }: NbdExport,
  timeoutMs: number,
): Promise<string | undefined> {
  const samples = chooseSamples(info);
  stream.setDeadline(timeoutMs);
  await stream.send(Buffer.concat(samples.map(readRequest)));
  const waiting = new Map(samples.map((sample, index) => [BigInt(index), sample]));
  let readable = true;
  while (waiting.size > 0) {
    const answered = structuredReplies
      ? await takeChunk(stream, waiting)
      : await takeSimpleReply(stream, waiting);
    readable &&= answered;
  }
  if (!readable) return undefined;
  const hash = createHash('sha256');
  for (const { data } of samples) hash.update(data);
  return hash.digest('hex');
}

function chooseSamples(info: NbdExport['info']): Sample[] {
  const { sizeBytes, minimumBlockBytes, maximumBlockBytes } = info;
  // The backend's limits hold for these reads too.
  const unit = minimumBlockBytes;
  const most = Math.max(Math.floor(Math.min(EDGE_BYTES, maximumBlockBytes) / unit) * unit, unit);
  const limit = BigInt(most);
  const block = BigInt(Math.min(Math.max(SAMPLE_BYTES, unit), most));
  const edge = Number(sizeBytes < limit ? sizeBytes : limit);
  const samples = [sampleAt(0n, edge), sampleAt(sizeBytes - BigInt(edge), edge)];
  for (let n = 1n; n <= SAMPLES; n += 1n) {
    const offset = ((sizeBytes * n) / BigInt(SAMPLES + 1) / block) * block;
    if (offset + block <= sizeBytes) samples.push(sampleAt(offset, Number(block)));
  }
  return samples;
}

function sampleAt(offsetBytes: bigint, lengthBytes: number): Sample {
  return { offsetBytes, data: Buffer.alloc(lengthBytes), receivedBytes: 0, chunks: 0 };
}

function readRequest({ offsetBytes, data }: Sample, cookie: number): Buffer {
  const request = Buffer.alloc(REQUEST_BYTES);
  request.writeUInt32BE(REQUEST_MAGIC, 0);
  request.writeUInt16BE(CMD_READ, 6);
  request.writeBigUInt64BE(BigInt(cookie), 8);
  request.writeBigUInt64BE(offsetBytes, 16);
  request.writeUInt32BE(data.length, 24);
  return request;
}

/** False: the backend cannot read it. */
async function takeSimpleReply(stream: ByteStream, waiting: Map<bigint, Sample>): Promise<boolean> {
  const head = await stream.recv(SIMPLE_REPLY_BYTES);
  if (head.readUInt32BE(0) !== SIMPLE_REPLY_MAGIC) throw violation(stream, 'a wrong reply magic');
  const sample = claim(stream, waiting, head.readBigUInt64BE(8));
  waiting.delete(head.readBigUInt64BE(8));
  if (head.readUInt32BE(4) !== 0) return false;
  (await stream.recv(sample.data.length)).copy(sample.data);
  return true;
}

/** False: the backend cannot read it, or not all of it. */
async function takeChunk(stream: ByteStream, waiting: Map<bigint, Sample>): Promise<boolean> {
  const head = await stream.recv(CHUNK_BYTES);
  if (head.readUInt32BE(0) !== STRUCTURED_REPLY_MAGIC) {
    throw violation(stream, 'a wrong reply magic');
  }
  const isLast = (head.readUInt16BE(4) & FLAG_REPLY_DONE) !== 0;
  const cookie = head.readBigUInt64BE(8);
  const sample = claim(stream, waiting, cookie);
  sample.chunks += 1;
  const lengthBytes = head.readUInt32BE(16);
  if (sample.chunks > MAXIMUM_CHUNKS || lengthBytes > sample.data.length + 4096) {
    throw violation(stream, 'a reply that is longer than what was asked for');
  }
  const payload = lengthBytes === 0 ? Buffer.alloc(0) : await stream.recv(lengthBytes);
  const isGood = placeChunk(stream, sample, head.readUInt16BE(6), payload);
  if (!isLast) return isGood;
  waiting.delete(cookie);
  return isGood && sample.receivedBytes === sample.data.length;
}

/** False: it is an error. */
function placeChunk(stream: ByteStream, sample: Sample, type: number, payload: Buffer): boolean {
  if (type === REPLY_TYPE_NONE) return true;
  if ((type & 0x8000) !== 0) return false;
  const isData = type === REPLY_TYPE_OFFSET_DATA;
  if (!isData && type !== REPLY_TYPE_OFFSET_HOLE) throw violation(stream, 'an unknown chunk');
  if (payload.length < 12) throw violation(stream, 'a chunk that is too short');
  const at = payload.readBigUInt64BE(0) - sample.offsetBytes;
  const bytes = isData ? payload.length - 8 : payload.readUInt32BE(8);
  if (at < 0n || at + BigInt(bytes) > BigInt(sample.data.length)) {
    throw violation(stream, 'a chunk outside of its request');
  }
  if (isData) payload.copy(sample.data, Number(at), 8);
  sample.receivedBytes += bytes;
  return true;
}

function claim(stream: ByteStream, waiting: Map<bigint, Sample>, cookie: bigint): Sample {
  const sample = waiting.get(cookie);
  if (sample === undefined) throw violation(stream, 'a reply to a request that is not in flight');
  return sample;
}

function violation(stream: ByteStream, what: string): GatewayError {
  const message = `backend ${stream.peer} breaks the NBD protocol: it sent ${what}`;
  return new GatewayError('UNBD_BACKEND_PROTOCOL', message, {
    hint: 'this is a fault of the backend: update it',
  });
}
