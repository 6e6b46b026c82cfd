/**
 * Codecs as they are: most answer on the spot, some wait; given a cycle, a nesting too deep or a getter that throws, they
 * throw or die.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { messageOf } from "../store/ErrorText.ts"

/** Runs a codec: on the spot if it can, and with what it throws or dies with as a sentence in the error. */
export const guarded = <A, E, R>(codec: () => Effect.Effect<A, E, R>): Effect.Effect<A, E | string, R> => {
  try {
    const coded = codec()
    return Exit.isExit(coded) && Exit.isSuccess(coded)
      ? coded
      : Effect.catchDefect(coded, (defect) => Effect.fail(messageOf(defect)))
  } catch (defect) {
    return Effect.fail(messageOf(defect))
  }
}
