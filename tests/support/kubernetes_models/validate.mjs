// Reads manifests as JSON from stdin, and prints what their schemas say is wrong, one line for each.
// It runs in the folder where the packages are installed.
import { readFileSync } from "node:fs";

const models = {
  Gateway: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/Gateway",
  GRPCRoute: "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/GRPCRoute",
  ScaledObject: "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
};
for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  const module = await import(models[manifest.kind]);
  try {
    new module[manifest.kind](manifest).validate();
  } catch (error) {
    console.log(`${manifest.kind} ${manifest.metadata.name}: ${error.message}`);
  }
}
