// The thread of a part of a calibration.
import { workerData } from 'node:worker_threads';
import { answerCalls } from '../runtime/thread.ts';
import { calibrationPart, type PartInput } from './calibration-part.ts';

answerCalls(calibrationPart(workerData as PartInput));
