/**
 * The library: `load` a model, then chat, complete or generate.
 * @module onelaunch
 */

export type { Manifest } from './abi/manifest.ts';
export type { FusionPlan } from './codegen/index.ts';
export {
  BuildError,
  ContextOverflowError,
  type ErrorKind,
  InsufficientMemoryError,
  KernelTimeoutError,
  ModelNotSupportedError,
  OnelaunchError,
  Problems,
} from './errors.ts';
export { type LoadOptions, type LoadProgress, load } from './load.ts';
export type { DraftOption } from './load-draft.ts';
export type { AskedKernel } from './preflight.ts';
export type { ChatMessage, ContentPart } from './runtime/chat/chat-template.ts';
export type { ToolCallPart } from './runtime/chat/tool-reader.ts';
export type { CallOf, ToolCall, ToolChoice, ToolOption } from './runtime/chat/tools.ts';
export type { EmbedOptions, Pooling, TextEmbedding } from './runtime/embedding.ts';
export type { OnPrompt, Speculate } from './runtime/engine/options.ts';
export type { Grammar } from './runtime/grammar/grammars.ts';
export type { SchemaOption } from './runtime/grammar/json-schema.ts';
export type { TextScore } from './runtime/likelihood.ts';
export type { LanguageModel, PromptOptions } from './runtime/model.ts';
export type {
  ChosenLogprob,
  Finish,
  Piece,
  Reply,
  ReplyIterator,
  ReplyResult,
  TokenLogprob,
} from './runtime/reply.ts';
export type { ReplyOptions } from './runtime/sampling.ts';
export type { Session, SessionOptions } from './runtime/session.ts';
