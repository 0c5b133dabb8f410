// Starts Swagger UI on the page at /docs. A file of its own, as the page's policy allows no script inside it.
window.ui = SwaggerUIBundle({
  url: "openapi.json", // Relative to the page, so behind a proxy's prefix too.
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: true, // The token outlives a reload, in this browser alone.
  showCommonExtensions: true,
  validatorUrl: null, // Nothing is sent to swagger.io.
});

// Swagger UI leaves the cursor in the dialog's last field, but people come with a token, and that is the first.
document.addEventListener("click", (event) => {
  if (event.target.closest("button.authorize")) {
    setTimeout(() => document.querySelector(".auth-container input")?.focus());
  }
});
