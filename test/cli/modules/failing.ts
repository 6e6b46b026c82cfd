/** A worker that fails to start. */
import { Data, Effect, Layer } from "effect"

class Broken extends Data.TaggedError("Broken")<{ readonly message: string }> {}

export default Layer.effectDiscard(Effect.fail(new Broken({ message: "the licence has expired" })))
