// /set: the options of replies by the names they have as flags and in the library.
import { didYouMean } from '../../codegen/plan/did-you-mean.ts';
import { OnelaunchError } from '../../errors.ts';
import { checkForm, type ReplySettings } from '../reply.ts';
import { named, replyValues } from '../values.ts';

type Name = keyof typeof replyValues;

export const settingNames = Object.keys(
  replyValues,
) as readonly Name[] satisfies readonly (keyof ReplySettings)[];

const isName = (word: string): word is Name => Object.hasOwn(replyValues, word);

/** What `/set NAME VALUE` changes of the settings.
 *  @throws OnelaunchError of kind usage: no such option, or a value that it cannot have, be it beside the others */
export async function readSetting(
  name: string,
  value: string,
  settings: ReplySettings,
): Promise<ReplySettings> {
  checkName(name);
  const read: (text: string) => ReplySettings[Name] = replyValues[name];
  const setting: ReplySettings = {
    [name]: value === 'default' ? undefined : named(`/set ${name}`, read)(value),
  };
  // What cannot be followed is said now, not at the next question.
  await checkForm({ ...settings, ...setting });
  return setting;
}

/** The options that are set, a line each; of one, what it is.
 *  @throws OnelaunchError of kind usage: no such option */
export function showSettings(settings: ReplySettings, name = ''): string {
  if (name !== '') checkName(name);
  const names = name === '' ? settingNames : settingNames.filter((one) => one === name);
  const shown = names
    .filter((one) => name !== '' || settings[one] !== undefined)
    .map(
      (one) =>
        `${one}  ${settings[one] === undefined ? "default, the model's own" : JSON.stringify(settings[one])}`,
    );
  const all = `options: ${settingNames.join(', ')}`;
  return `${(name === '' ? [...shown, all] : shown).join('\n')}\n`;
}

function checkName(name: string): asserts name is Name {
  if (isName(name)) return;
  throw new OnelaunchError('usage', `there is no option '${name}'`, {
    hint: `${didYouMean(name, settingNames)}there are ${settingNames.join(', ')}`,
  });
}
