/** A local stand-in for an OpenTelemetry collector: takes OTLP over HTTP as JSON, and keeps what it got. */
import { Effect, type Scope } from "effect"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

interface Attribute {
  readonly key: string
  readonly value: { readonly stringValue?: string; readonly intValue?: number | string; readonly doubleValue?: number }
}

/** A span as it is exported. */
export interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly attributes: ReadonlyArray<Attribute>
  readonly links: ReadonlyArray<{ readonly traceId: string; readonly spanId: string }>
  readonly status: { readonly code: number }
}

export interface Collector {
  readonly url: string
  /** Spans with the service that sent them. */
  readonly spans: () => ReadonlyArray<{ readonly service: string; readonly span: Span }>
  /** Names of metrics, with the unit they were sent with. */
  readonly metrics: () => ReadonlyMap<string, string>
  /** Texts of log records. */
  readonly logs: () => ReadonlyArray<string>
}

/** The value of an attribute. */
export const attribute = (attributes: ReadonlyArray<Attribute>, key: string): unknown => {
  const value = attributes.find((one) => one.key === key)?.value
  return value?.stringValue ?? value?.intValue ?? value?.doubleValue
}

/** Listens on a free port until the scope closes. */
export const collect: Effect.Effect<Collector, never, Scope.Scope> = Effect.gen(function* () {
  const bodies: Array<{ readonly path: string; readonly body: any }> = []
  const server = yield* Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const server = createServer((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk) => chunks.push(chunk))
        request.on("end", () => {
          bodies.push({ path: request.url ?? "", body: JSON.parse(Buffer.concat(chunks).toString()) })
          response.writeHead(200, { "content-type": "application/json" }).end("{}")
        })
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  )
  const all = <A>(path: string, read: (body: any) => ReadonlyArray<A>): ReadonlyArray<A> =>
    bodies.filter((one) => one.path === path).flatMap(({ body }) => read(body))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans: () =>
      all("/v1/traces", (body) =>
        body.resourceSpans.flatMap((resource: any) =>
          resource.scopeSpans.flatMap((scope: any) =>
            scope.spans.map((span: Span) => ({
              service: String(attribute(resource.resource.attributes, "service.name")),
              span
            }))
          )
        )
      ),
    metrics: () =>
      new Map(
        all("/v1/metrics", (body) =>
          body.resourceMetrics.flatMap((resource: any) =>
            resource.scopeMetrics.flatMap((scope: any) =>
              scope.metrics.map((metric: any) => [metric.name, metric.unit] as const)
            )
          )
        )
      ),
    logs: () =>
      all("/v1/logs", (body) =>
        body.resourceLogs.flatMap((resource: any) =>
          resource.scopeLogs.flatMap((scope: any) => scope.logRecords.map((record: any) => JSON.stringify(record.body)))
        )
      )
  }
})
