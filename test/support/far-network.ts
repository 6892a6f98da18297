/**
 * Owns: a network namespace of its own for a backend, and the link to it, which a test spoils.
 * Runs in: device test processes, as root; ip and tc are of iproute2.
 * Must not: touch another link of the machine.
 */
import type { Site } from './backends.ts';
import { must, run } from './process.ts';
import type { Scope } from './scope.ts';

const NAME = 'unbd-far';
const NEAR_LINK = 'unbd-near';
const FAR_LINK = 'unbd-far';
/** Of TEST-NET-1, which nobody routes. */
const NEAR_ADDRESS = '192.0.2.1';
const FAR_ADDRESS = '192.0.2.2';

async function words(text: string): Promise<void> {
  await must(text.split(' '));
}

export class FarNetwork implements Site {
  readonly address = FAR_ADDRESS;
  readonly prefix = ['ip', 'netns', 'exec', NAME];

  static async make(scope: Scope): Promise<FarNetwork> {
    scope.defer(async () => {
      await run(['ip', 'link', 'del', NEAR_LINK]);
      await must(['ip', 'netns', 'del', NAME]);
    });
    await words(`ip netns add ${NAME}`);
    await words(`ip link add ${NEAR_LINK} type veth peer name ${FAR_LINK} netns ${NAME}`);
    await words(`ip addr add ${NEAR_ADDRESS}/30 dev ${NEAR_LINK}`);
    await words(`ip -n ${NAME} addr add ${FAR_ADDRESS}/30 dev ${FAR_LINK}`);
    await words(`ip -n ${NAME} link set ${FAR_LINK} up`);
    await words(`ip link set ${NEAR_LINK} up`);
    return new FarNetwork();
  }

  /** So much of what goes to the backend is lost on the way. */
  async lose(percent: number): Promise<void> {
    await words(`tc qdisc add dev ${NEAR_LINK} root netem loss ${percent}%`);
  }

  async loseNothing(): Promise<void> {
    await words(`tc qdisc del dev ${NEAR_LINK} root`);
  }

  async link(state: 'up' | 'down'): Promise<void> {
    await words(`ip link set ${NEAR_LINK} ${state}`);
  }
}
