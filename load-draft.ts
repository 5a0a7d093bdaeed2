// A second model on the same device that drafts for the first: what is asked of it, and whether its tokens are the same.
import { checkMemory, opened } from './enough-memory.ts';
import { OnelaunchError } from './errors.ts';
import { type AskedKernel, type CheckedModel, type Needs, preflight, roomOf } from './preflight.ts';
import type { Tokenizer } from './runtime/tokenizer/tokenizer.ts';

/** The draft model: its name or folder, or with it what `load` takes of a kernel. What is left out is as the model has it, but for the plan. */
export type DraftOption = string | AskedKernel;

/** What is checked for both models; `sequences` are replies at a time. */
export interface DraftNeeds
  extends NonNullable<Needs['run']>,
    Pick<Needs, 'embeddings'>,
    Pick<AskedKernel, 'target'> {
  readonly randomWeights?: { readonly seed: number } | undefined;
}

/** Checks a draft model for one that was checked. Starts no compiler.
 *  @throws OnelaunchError, of kind usage where the tokens of the two are not the same, or no reply would be drafted for; InsufficientMemoryError
 *  where one fits, and both do not */
export async function checkDraft(
  option: DraftOption,
  model: CheckedModel,
  { target, embeddings = false, randomWeights, ...run }: DraftNeeds,
): Promise<CheckedModel> {
  const { sequences = 1, device, context, threads, usual, memory } = run;
  const never = embeddings ? 'embeddings are no replies' : sequences > 1 ? `parallel is ${sequences}` : null;
  if (never !== null) {
    throw new OnelaunchError('usage', `a draft model drafts for one reply at a time, and ${never}`, {
      hint: `Leave out draft, or ${embeddings ? 'embeddings' : 'parallel'}.`,
    });
  }
  const asked = typeof option === 'string' ? { model: option } : option;
  const draft = await preflight(
    { ...asked, target: asked.target ?? target ?? model.target.name },
    {
      weights: randomWeights === undefined,
      tokenizer: 'optional',
      run: { device, context, threads, usual, memory },
    },
  );
  if (draft.directory === null || draft.directory !== model.directory) checkVocabulary(model, draft);
  if (draft.memory && draft.target.kind === model.target.kind) {
    const room = roomOf(model.dims, run);
    const shorter = { ...room, context: Math.min(room.context, draft.dims.maxPositions), sequences: 1 };
    checkMemory([opened(model, room), opened(draft, shorter)], draft.memory);
  }
  return draft;
}

/** Tokens are handed over by their ids, which must mean the same to both. Without tokenizers only their number can be compared. */
function checkVocabulary(model: CheckedModel, draft: CheckedModel): void {
  const ours = model.files.tokenizer;
  const theirs = draft.files.tokenizer;
  const refuse = (why: string): never => {
    throw new OnelaunchError('usage', `${draft.dims.name} cannot draft for ${model.dims.name}: ${why}`, {
      hint: 'A draft model has the tokenizer of its model: a smaller one of the same family, or the model itself with weights int4.',
    });
  };
  if (ours === null || theirs === null) {
    if (model.dims.vocab !== draft.dims.vocab)
      refuse(`it has ${draft.dims.vocab} tokens, and the model ${model.dims.vocab}`);
    return;
  }
  const other = firstOther(ours, theirs);
  if (other === null) return;
  refuse(`token ${other} is ${spelled(theirs, other)} to it, and ${spelled(ours, other)} to the model`);
}

/** The lowest id that is not the same token to both; null: there is none. */
function firstOther(ours: Tokenizer, theirs: Tokenizer): number | null {
  for (let id = 0; id < Math.max(ours.size, theirs.size); id++) {
    if (ours.added.get(id) !== theirs.added.get(id)) return id;
    if (Buffer.compare(ours.bytes(id), theirs.bytes(id)) !== 0) return id;
  }
  return null;
}

const spelled = (tokenizer: Tokenizer, id: number): string => {
  const text = tokenizer.added.get(id) ?? Buffer.from(tokenizer.bytes(id)).toString();
  return text === '' ? 'none' : JSON.stringify(text);
};
