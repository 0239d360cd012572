// Shows the API document in Swagger UI.

const spec = await fetch("openapi.json").then((response) => response.json());
// Requests go to the origin and path prefix of this document, which a proxy may have added.
spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }];
globalThis.SwaggerUIBundle({
  spec,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
