// Starts Swagger UI with our document. Its query parameters (?url=, ?configUrl=) stay off: they would load any document.
// Deep links stay off, too: they would be links inside buttons. The list of servers is hidden: there is only one.
const root = document.documentElement;
const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
root.classList.toggle("dark-mode", dark);
const main = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: main.dataset.document,
  domNode: main,
  queryConfigEnabled: false,
  validatorUrl: null,
  deepLinking: false,
  tryItOutEnabled: true,
  presets: [SwaggerUIBundle.presets.apis],
  plugins: [() => ({ wrapComponents: { ServersContainer: () => () => null } })],
});
