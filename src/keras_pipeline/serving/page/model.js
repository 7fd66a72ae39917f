// The model of this page. null: the service that the page comes from is asked. `keras-pipeline page` writes the
// manifest of an export here, and puts its network.js and predict.js beside this file: then the page computes itself.
"use strict";

globalThis.model = null;
