'use strict';

const express = require('express');

const app = express();
app.get('/', (req, res) => res.send(`node-app, uid ${process.getuid()}\n`));
app.get('/hello/:name', (req, res) => res.json({ hello: req.params.name }));

const server = app.listen(process.env.PORT, () => {
  console.log(`listening on ${process.env.PORT}`);
});

// The first process of a container gets no default action for signals.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => server.close(() => process.exit(0)));
}
