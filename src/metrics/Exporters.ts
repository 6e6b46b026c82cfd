/**
 * Where metrics, traces and logs go (`polyqueue/metrics`): a Prometheus endpoint, and OTLP to a collector, both through
 * Effect's own modules. They export everything of the process, ours and yours. Provide them *around* what they are to see:
 * below the worker, and with the same `Metric.MetricRegistry`.
 *
 * @example
 * ```ts
 * import { NodeHttpServer } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { FetchHttpClient, HttpRouter } from "effect/http"
 * import * as Exporters from "polyqueue/metrics"
 * import { createServer } from "node:http"
 *
 * // GET /metrics on port 9090
 * const Prometheus = HttpRouter.serve(Exporters.layerPrometheus(), { disableLogger: true }).pipe(
 *   Layer.provide(NodeHttpServer.layer(createServer, { port: 9090 }))
 * )
 * // To the collector that OTEL_EXPORTER_OTLP_ENDPOINT names
 * const Otlp = Exporters.layerOtlp().pipe(Layer.provide(FetchHttpClient.layer))
 * ```
 */
import type * as HttpClient from "effect/http/HttpClient"
import type * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Otlp from "effect/observability/Otlp"
import type * as OtlpExporter from "effect/observability/OtlpExporter"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import { version } from "../version.ts"
import { prometheusNames } from "./Instruments.ts"

export { type Instrument, instruments } from "./Instruments.ts"

/** How the endpoint is served. */
export interface PrometheusOptions {
  /** Default `/metrics`. */
  readonly path?: HttpRouter.PathInput | undefined
}

/** Our names by Prometheus's conventions (`_total`, `_seconds`); names of others as Effect writes them. */
export const prometheusName = (name: string): string => prometheusNames.get(name) ?? name

/**
 * `GET /metrics` on the router, in the text format of Prometheus. A scrape reads what this process holds in memory; queue
 * gauges in it are the fleet's, counted once per interval, and the same on every worker: aggregate them with `max`.
 */
export const layerPrometheus = (options: PrometheusOptions = {}): Layer.Layer<never, never, HttpRouter.HttpRouter> =>
  PrometheusMetrics.layerHttp({ ...options, metricNameMapper: prometheusName })

/** What is exported where. What is left out comes from the `OTEL_*` variables and their defaults. */
export interface OtlpOptions {
  /** Such as `http://localhost:4318`. Default: `OTEL_EXPORTER_OTLP_ENDPOINT` and its siblings. */
  readonly baseUrl?: string | undefined
  /** Default: `OTEL_SERVICE_NAME`, or `polyqueue` where `baseUrl` is given. */
  readonly serviceName?: string | undefined
  readonly serviceVersion?: string | undefined
  readonly attributes?: Record<string, unknown>
}

/**
 * Metrics, traces and logs to an OTLP collector over HTTP, as JSON; flushed when the layer closes. A collector that is away
 * costs telemetry, nothing else. Attempts are children of the enqueue's span, in whatever process; a retry links to the
 * attempt that failed.
 */
export const layerOtlp = (
  options: OtlpOptions = {}
): Layer.Layer<OtlpExporter.Flusher, never, HttpClient.HttpClient> => {
  const { attributes, baseUrl, serviceName, serviceVersion } = options
  const resource = {
    ...(serviceName === undefined ? {} : { serviceName }),
    ...(serviceVersion === undefined ? {} : { serviceVersion }),
    attributes: { "polyqueue.version": version, ...attributes }
  }
  const exporters =
    baseUrl === undefined
      ? Otlp.layerFromConfig({ resource })
      : Otlp.layer({ baseUrl, resource: { serviceName: "polyqueue", ...resource } })
  return Layer.provide(exporters, OtlpSerialization.layerJson)
}
