/** The Postgres worker registry passes the contract suite on a real server. */
import { Layer } from "effect"
import * as WorkerRegistryContract from "../../src/testing/WorkerRegistryContract.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"
import { registryUnderTest } from "../support/StoreLayers.ts"

describePostgres("on a server", () => {
  const layer = Layer.effect(WorkerRegistryContract.RegistryUnderTest, registryUnderTest)
  WorkerRegistryContract.suite("PostgresWorkerRegistry", layer.pipe(Layer.provide(layerFresh())))
})
