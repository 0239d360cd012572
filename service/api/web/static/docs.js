// Shows the API document in Swagger UI.

const spec = await fetch("openapi.json").then((response) => response.json());
// Requests go where the document came from, whatever prefix a proxy has put before it.
spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }];
globalThis.SwaggerUIBundle({
  spec,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
