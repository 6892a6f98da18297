/**
 * Owns: which bench `npm run bench` runs: that of NBD, or by the word `http` that of HTTP.
 * Runs in: its own process on the host.
 * Must not: know the options of either.
 */
import { benchHttp } from './http/bench.ts';
import { benchNbd } from './nbd/bench.ts';

const [first, ...rest] = process.argv.slice(2);
if (first === 'http') benchHttp(rest);
else benchNbd(process.argv.slice(2));
