// Starts Swagger UI on our own document. Its query parameters (?url=, ?configUrl=) stay off: they would render anybody's.
const main = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: main.dataset.document,
  domNode: main,
  queryConfigEnabled: false,
  validatorUrl: null,
  deepLinking: true,
  tryItOutEnabled: true,
  presets: [SwaggerUIBundle.presets.apis],
});
