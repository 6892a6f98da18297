/**
 * Owns: the ways to name a device: N, ublkbN, /dev/ublkbN, a stable name, its link under
 * /dev/ublk-nbd.
 * Runs in: any process; pure.
 * Must not: look anything up.
 */
import { GatewayError } from '../protocols/errors.ts';

export const LINK_FOLDER = '/dev/ublk-nbd';
/** The first character keeps them apart from options and from our temporary files. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export type DeviceReference = { readonly id: number } | { readonly name: string };

export const blockPath = (id: number): string => `/dev/ublkb${id}`;
export const charPath = (id: number): string => `/dev/ublkc${id}`;
export const linkPath = (name: string): string => `${LINK_FOLDER}/${name}`;

/** Throws UNBD_USAGE for what names no device in any of these ways. */
export function parseDevice(text: string): DeviceReference {
  const number = /^(?:(?:\/dev\/)?ublkb)?(\d{1,9})$/.exec(text)?.[1];
  if (number !== undefined) return { id: Number(number) };
  const name = text.startsWith(`${LINK_FOLDER}/`) ? text.slice(LINK_FOLDER.length + 1) : text;
  if (isStableName(name)) return { name };
  throw new GatewayError('UNBD_USAGE', `'${text}' names no device`, {
    hint: 'give N, ublkbN, /dev/ublkbN or a name; see: ublk-nbd list',
  });
}

/** A name that can be a link and cannot be mistaken for another way to name a device. */
export function isStableName(name: string): boolean {
  return NAME.test(name) && !/^(ublkb)?\d+$/.test(name);
}
