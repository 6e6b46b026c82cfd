/** The Postgres job store passes the contract suite on a real server, its clock moved by a row that only tests make. */
import { Layer } from "effect"
import * as JobStoreContract from "../../src/testing/JobStoreContract.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"
import { storeUnderTest } from "../support/StoreLayers.ts"

describePostgres("on a server", () => {
  JobStoreContract.suite("PostgresJobStore", storeUnderTest.pipe(Layer.provide(layerFresh())))
})
