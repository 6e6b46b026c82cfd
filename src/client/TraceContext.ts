/**
 * W3C trace context travels with the job: the enqueue's span is stored with the row, every attempt is a child of it.
 * Nothing is made when nobody traces: no span, no metadata.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Headers from "effect/http/Headers"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

const nativeTracer = Tracer.Tracer.defaultValue()

/** True when a tracer was provided: the native one exports nothing, so a span would only cost. */
const isTraced = (fiber: Fiber.Fiber<unknown, unknown>) => fiber.getRef(Tracer.Tracer) !== nativeTracer

/** The span around the caller as JSON text. */
const current: Effect.Effect<string | undefined> = Effect.match(Effect.currentSpan, {
  onFailure: () => undefined,
  onSuccess: (span) => {
    const { traceparent } = HttpTraceContext.toHeaders(span)
    return traceparent === undefined ? undefined : JSON.stringify({ traceparent })
  }
})

/** Makes an enqueue from its trace context, `undefined` when nobody traces, and else wraps it in a producer span. */
export const producer = <A, E, R>(
  type: string,
  make: (traceContext: string | undefined) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    isTraced(fiber)
      ? Effect.withSpan(Effect.flatMap(current, make), `enqueue ${type}`, {
          kind: "producer",
          attributes: {
            "messaging.system": "polyqueue",
            "messaging.operation.type": "send",
            "polyqueue.job.type": type
          }
        })
      : make(undefined)
  )

/** The span that a `traceparent` names. Whoever may write the row may write anything there. */
const spanOf = (traceparent: unknown): Option.Option<Tracer.ExternalSpan> =>
  typeof traceparent === "string" ? HttpTraceContext.fromHeaders(Headers.fromInput({ traceparent })) : Option.none()

/**
 * Runs an attempt, made in its own fiber, in a consumer span, child of the enqueue's, when somebody traces; a retry
 * links to the attempt that failed before it. `onSpan` is told the attempt's own `traceparent`.
 */
export const consumer = <A, E, R>(
  job: {
    readonly id: string
    readonly type: string
    readonly queue: string
    readonly attempt: number
    readonly metadata: Readonly<Record<string, string>> | undefined
    readonly failedTrace: string | undefined
  },
  make: () => Effect.Effect<A, E, R>,
  onSpan: (traceparent: string) => void
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    if (!isTraced(fiber)) return make()
    const origin = spanOf(job.metadata?.["traceparent"])
    const failed = spanOf(job.failedTrace)
    const tell = Effect.map(Effect.currentSpan, (span) => {
      const { traceparent } = HttpTraceContext.toHeaders(span)
      if (traceparent !== undefined) onSpan(traceparent)
    })
    return Effect.withSpan(Effect.andThen(Effect.ignore(tell), Effect.suspend(make)), `run ${job.type}`, {
      kind: "consumer",
      ...(Option.isSome(origin) ? { parent: origin.value } : { root: true }),
      links: Option.match(failed, {
        onNone: () => [],
        onSome: (span) => [{ span, attributes: { "polyqueue.link": "failed attempt" } }]
      }),
      attributes: {
        "messaging.system": "polyqueue",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": job.id,
        "polyqueue.job.type": job.type,
        "polyqueue.job.attempt": job.attempt
      }
    })
  })
