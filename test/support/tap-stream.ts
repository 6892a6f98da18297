/**
 * Owns: reading TAP as it comes: its tests, and what is said of those that failed.
 * Runs in: the test runner.
 * Must not: trust the producer to be alive at the end; whoever calls says what was missing.
 */
export interface TapTest {
  readonly name: string;
  readonly result: 'passed' | 'failed' | 'skipped';
  /** The lines that the producer gave; of interest for a failure. */
  readonly details: readonly string[];
  /** As the producer measured it; undefined where it does not say. */
  durationMs: number | undefined;
}

const TEST_LINE = /^(not )?ok \d+(?: - )?(.*?)(?: # (SKIP|T[O]DO|time=).*)?$/i;

const MAXIMUM_DEEPER = 40;

/** Tests at one depth of a TAP stream; a depth is four blanks. Feed it whole lines. */
export class TapReader {
  readonly #indent: string;
  readonly #onTest: (test: TapTest) => void;
  #pending: { test: TapTest; details: string[]; isYaml: boolean } | undefined;
  #before: string[] = [];
  /** Of the test that is under way: what failed in it, at a greater depth. */
  #deeper: string[] = [];
  planned: number | undefined;

  constructor(depth: number, onTest: (test: TapTest) => void) {
    this.#indent = ' '.repeat(4 * depth);
    this.#onTest = onTest;
  }

  line(raw: string): void {
    const text = raw.replace(/\r$/, '');
    const own = text.startsWith(this.#indent) ? text.slice(this.#indent.length) : text;
    const plan = /^1\.\.(\d+)/.exec(own);
    if (plan) this.planned = Number(plan[1]);
    const match = own === text && this.#indent !== '' ? null : TEST_LINE.exec(own);
    if (match === null) {
      this.#other(own);
      return;
    }
    this.end();
    const isSkipped = /^(skip|t[o]do)$/i.test(match[3] ?? '');
    const result = match[1] ? 'failed' : isSkipped ? 'skipped' : 'passed';
    const details = [...this.#before, ...(match[1] ? this.#deeper : [])];
    this.#before = [];
    this.#deeper = [];
    const test = { name: match[2] ?? '', result, details, durationMs: undefined } as const;
    this.#pending = { test: { ...test }, details, isYaml: false };
  }

  /**
   * Lines beside the tests: the diagnosis of the last one, or, in front of it, what C programs
   * print.
   */
  #other(text: string): void {
    const pending = this.#pending;
    if (pending !== undefined) {
      if (text.trim() === '---') pending.isYaml = true;
      if (pending.isYaml) pending.details.push(text);
      const duration = /^\s+duration_ms: ([\d.]+)/.exec(text);
      if (duration) pending.test.durationMs = Number(duration[1]);
      if (pending.isYaml && text.trim() !== '...') return;
      this.end();
    }
    const isFailure = /^ {4,}not ok/.test(text);
    if (isFailure || (this.#deeper.length > 0 && text.startsWith('    '))) {
      if (this.#deeper.length < MAXIMUM_DEEPER) this.#deeper.push(text);
    } else if (text.startsWith('# ') && !/^# (Subtest|tests|suites|pass|fail)/.test(text)) {
      this.#before = [...this.#before.slice(-40), text];
    }
  }

  /** No more lines come. */
  end(): void {
    if (this.#pending !== undefined) this.#onTest(this.#pending.test);
    this.#pending = undefined;
  }
}

export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

export function newTotals(): Totals {
  return { passed: 0, failed: 0, skipped: 0 };
}

export function addTotals(totals: Totals, more: Totals): void {
  totals.passed += more.passed;
  totals.failed += more.failed;
  totals.skipped += more.skipped;
}

/** Cuts a stream's pieces into lines. */
export class Lines {
  #rest = '';
  readonly #onLine: (line: string) => void;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(piece: string): void {
    const lines = (this.#rest + piece).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#onLine(line);
  }

  end(): void {
    if (this.#rest !== '') this.#onLine(this.#rest);
    this.#rest = '';
  }
}
