//! The local Functions host: reads `host.json` and the function folders, starts the handler and plays the triggers as Azure's host does.
//! It does not know what the handler does: it talks to it over HTTP only.
