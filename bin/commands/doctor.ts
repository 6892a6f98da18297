/**
 * Owns: `ublk-nbd doctor`.
 * Runs in: the CLI.
 * Must not: mend anything; it says what to do.
 */
import type { Check } from '../../src/gateway/doctor.ts';
import { GatewayError } from '../../src/protocols/errors.ts';
import { defineCommand, jsonOption } from '../command.ts';
import { json } from '../output.ts';

export const command = defineCommand({
  examples: [
    ['doctor', 'Everything that is checked, and the cure of what fails'],
    ['doctor --json', 'For machines'],
  ],
  build: (yargs) => yargs.options(jsonOption),
  run: async (args, context) => {
    const checks = await context.gateway.doctor();
    context.print(args.json ? json(checks.map(checkJson)) : checks.map(line).join('\n'));
    const failed = checks.filter((check) => check.required && !check.ok);
    const [first] = failed;
    if (first === undefined) return;
    const names = failed.map(({ name }) => name).join(', ');
    throw new GatewayError(
      first.code ?? 'UNBD_NO_DRIVER',
      `this machine cannot serve devices: ${names}`,
      {
        hint: 'do what the lines marked FAIL say',
      },
    );
  },
});

function checkJson(check: Check): Record<string, unknown> {
  const { name, ok, required, found, cure } = check;
  return { name, ok, required, found, cure: cure ?? null };
}

function line(check: Check): string {
  const mark = check.ok ? 'ok  ' : check.required ? 'FAIL' : 'note';
  const cure = check.ok || check.cure === undefined ? '' : `; ${check.cure}`;
  return `${mark}  ${check.name}: ${check.found}${cure}`;
}
