/** A worker that needs a service nobody provides. */
import { Context, Effect, Layer } from "effect"

class Mailer extends Context.Service<Mailer, { readonly send: Effect.Effect<void> }>()("app/Mailer") {}

export default Layer.effectDiscard(Effect.flatMap(Mailer, (mailer) => mailer.send))
