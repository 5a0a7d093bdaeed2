// Where the Hugging Face Hub is, where its cache lies, and who asks: read from the environment as the Python tools do.
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { OnelaunchError } from '../errors.ts';
import { home } from '../files/home.ts';

export type Env = Readonly<Record<string, string | undefined>>;

export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | null;
}

/** The folder that holds models--ORG--NAME: $HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub. */
export function hubCache(env: Env = process.env): string {
  return pathIn(env, 'HF_HUB_CACHE') ?? pathIn(env, 'HUGGINGFACE_HUB_CACHE') ?? join(hubHome(env), 'hub');
}

/** @throws OnelaunchError: usage for an endpoint that is no URL, environment for a token that is none, or where the Hub is not to be asked */
export function hubSettings(env: Env = process.env): HubSettings {
  if (isOn(env['HF_HUB_OFFLINE'])) {
    throw new OnelaunchError('environment', 'HF_HUB_OFFLINE is set, so nothing is fetched', {
      hint: 'Unset it, or give the directory of a model that is here.',
    });
  }
  const endpoint = (env['HF_ENDPOINT'] || 'https://huggingface.co').replace(/\/+$/, '');
  if (!URL.canParse(endpoint) || !/^https?:/i.test(endpoint)) {
    throw new OnelaunchError('usage', `HF_ENDPOINT is '${endpoint}', must be the address of a Hub`, {
      hint: 'for example: HF_ENDPOINT=https://huggingface.co',
    });
  }
  const token = readToken(env);
  // It would be part of the message of fetch.
  if (token !== null && !/^[\x21-\x7e]+$/.test(token)) {
    throw new OnelaunchError('environment', 'the token in HF_TOKEN has characters that no token has', {
      hint: 'Copy it again from https://huggingface.co/settings/tokens.',
    });
  }
  return { endpoint, token };
}

/** $HF_TOKEN, else what `hf auth login` has written. */
function readToken(env: Env): string | null {
  if (isOn(env['HF_HUB_DISABLE_IMPLICIT_TOKEN'])) return null;
  const given = (env['HF_TOKEN'] || env['HUGGING_FACE_HUB_TOKEN'])?.trim();
  if (given) return given;
  try {
    return readFileSync(pathIn(env, 'HF_TOKEN_PATH') ?? join(hubHome(env), 'token'), 'utf8').trim() || null;
  } catch {
    return null;
  }
}

function hubHome(env: Env): string {
  const caches = () => pathIn(env, 'XDG_CACHE_HOME') ?? join(home(), '.cache');
  return pathIn(env, 'HF_HOME') ?? join(caches(), 'huggingface');
}

function pathIn(env: Env, name: string): string | undefined {
  const path = env[name];
  return path ? resolve(path.replace(/^~(?=\/|$)/, () => home())) : undefined;
}

const isOn = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? '');
