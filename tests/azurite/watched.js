// One of Azurite's services for as long as its parent lives: it ends when its standard input does, which the system closes with the
// process that holds the other end, however that one dies. The first argument is the folder that `npm ci` filled, the second
// `blob` or `queue`; the rest is Azurite's.
'use strict';
const path = require('path');
const [node, script, folder, service, ...args] = process.argv;
process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();
process.argv = [node, script, ...args];
require(path.join(folder, 'node_modules/azurite/dist/src', service, 'main.js'));
